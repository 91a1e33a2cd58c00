"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const dataOf = (figure) => JSON.parse(figure.querySelector('script[type="application/json"]').textContent);

  // Storage may be refused for files; then nothing is remembered.
  const kept = (storage, key) => { try { return window[storage].getItem(key); } catch { return null; } };
  const keep = (storage, key, value) => { try { window[storage].setItem(key, value); } catch { /* not kept */ } };

  const short = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-3 ? value.toExponential(2).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(4)));
  };

  // ------------------------------------------------------------------------------------------------------- colours

  const probe = make("span", { hidden: "" });
  document.body.append(probe);
  const color = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  const steps = [...Array(61).keys()].flatMap((e) => [1, 2, 2.5, 5].map((m) => m * 10 ** (e - 30))); // between two ticks
  const dashes = [[], [8, 4], [2, 3]];
  const redraws = [];
  const recolor = () => redraws.forEach((redraw) => redraw());
  const theme = document.querySelector("select.theme");
  const setTheme = (value) => { root.style.colorScheme = value || "light dark"; };
  theme.value = kept("localStorage", "ganframe-theme") || "";
  setTheme(theme.value);
  theme.addEventListener("change", () => {
    keep("localStorage", "ganframe-theme", theme.value);
    setTheme(theme.value);
    recolor();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);

  // -------------------------------------------------------------------------------------------------------- charts

  // A chart in `place`: lines {name, y, notes?, axis?} over x. Returns {set(lines)}, which changes their values.
  const draw = (figure, data) => {
    const place = figure.querySelector(".plot"), readout = figure.querySelector(".readout");
    const legend = figure.querySelector(".legend");
    const values = (y) => y.map((v) => (v === "gap" ? null : v === null ? undefined : v));
    let lines = data.series, plot, log = false;
    const style = (i) => ({ color: `c${i % 8}`, dash: dashes[i % 3] });
    const shown = lines.map(() => true);

    const tell = () => {
      const i = plot.cursor.idx;
      if (i === null || i === undefined) { readout.textContent = data.hint || ""; return; }
      const said = [`${data.labels[0]} ${short(data.x[i])}`];
      const notes = new Set();
      lines.forEach((line, k) => {
        const value = line.y[i];
        if (!shown[k] || value === null) return;
        said.push(`${line.name} ${value === "gap" ? "not finite" : short(value)}`);
        if (line.notes && line.notes[i]) notes.add(line.notes[i]);
      });
      readout.textContent = said.join(" · ") + (notes.size ? ` — ${[...notes].join("; ")}` : "");
    };

    const build = () => {
      if (plot) plot.destroy();
      const text = color("muted"), grid = color("line"), font = "12px system-ui, sans-serif";
      const room = (self, ticks) => 22 + 7.5 * Math.max(3, ...(ticks || []).map((tick) => (tick || "").length));
      const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid }, font, labelFont: font };
      const numbers = (self, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick))); // null: not labelled, on a logarithmic axis
      const labelled = (label) => (label ? { label, labelSize: 20 } : {});
      const second = data.second ? [{ ...axis, grid: { show: false }, scale: "second", side: 1, values: numbers, size: room, ...labelled(data.second.label) }] : [];
      plot = new uPlot({
        width: Math.max(200, place.clientWidth), height: 240,
        legend: { show: false }, padding: [10, data.second ? 0 : 24, 0, 0],
        scales: { x: { time: false, ...(data.xrange ? { range: data.xrange } : {}) }, ...(log ? { y: { distr: 3 } } : {}), ...(data.second ? { second: { range: data.second.range } } : {}) },
        cursor: { y: false, points: { size: 7 }, ...(data.labels[0] === "step" ? { sync: { key: "step" } } : {}) },
        hooks: { setCursor: [() => plot && tell()] },
        axes: [
          { ...axis, values: numbers, size: 34, ...labelled(data.labels[0]) },
          { ...axis, values: numbers, ...(log ? {} : { incrs: steps }), size: room, ...labelled(data.labels[1]) },
          ...second,
        ],
        series: [{}, ...lines.map((line, i) => ({
          label: line.name, show: shown[i], stroke: color(style(i).color), dash: style(i).dash, width: 2,
          scale: line.second ? "second" : "y", points: data.points === false ? { show: false } : { size: 6, fill: color(style(i).color) },
        }))],
      }, [data.x, ...lines.map((line) => values(line.y))], place);
      readout.textContent = data.hint || "";
    };
    build();

    lines.forEach((line, i) => {
      const swatch = make("span", { class: `swatch ${["", "dashed", "dotted"][i % 3]}`, "aria-hidden": "true" });
      swatch.style.borderTopColor = `var(--${style(i).color})`;
      const button = make("button", { type: "button", "aria-pressed": "true" }, swatch, line.name);
      button.addEventListener("click", () => {
        shown[i] = !shown[i];
        button.setAttribute("aria-pressed", shown[i]);
        plot.setSeries(i + 1, { show: shown[i] });
      });
      legend.append(button);
    });
    const known = lines.flatMap((line) => line.y.filter((v) => typeof v === "number"));
    if (data.points !== false && known.length && Math.min(...known) > 0) {
      const button = make("button", { type: "button", class: "log", "aria-pressed": "false" }, "logarithmic");
      button.addEventListener("click", () => {
        log = !log;
        button.setAttribute("aria-pressed", log);
        build();
      });
      legend.append(button);
    }
    new ResizeObserver(() => {
      const width = Math.max(200, place.clientWidth);
      if (plot.width !== width) plot.setSize({ width, height: 240 });
    }).observe(place);
    redraws.push(build);
    return { set: (new_lines) => { lines = new_lines; plot.setData([data.x, ...lines.map((line) => values(line.y))]); } };
  };

  // Charts near to what is seen are drawn first and the others one by one after them, so that a page with many opens at
  // once; all before it is printed.
  const waiting = new Set(all("figure.chart"));
  const drawn = (figure) => { if (waiting.delete(figure)) draw(figure, dataOf(figure)); };
  const nearby = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => drawn(entry.target));
  }, { rootMargin: "400px" });
  waiting.forEach((figure) => nearby.observe(figure));
  const others = () => { for (const figure of waiting) { drawn(figure); setTimeout(others, 30); return; } };
  addEventListener("load", () => setTimeout(others, 300));
  addEventListener("beforeprint", () => waiting.forEach(drawn));

  // ------------------------------------------------------------------------------------------------------- players

  // A slider over labels, and a button that plays them. `show(i)` draws one; the last is shown first.
  const player = (figure, labels, show) => {
    const slider = figure.querySelector("input[type=range]"), output = figure.querySelector("output");
    const button = figure.querySelector(".play"), key = `ganframe-${location.pathname}-${figure.dataset.name}`;
    const last = labels.length - 1;
    let timer = null;
    const go = (i) => {
      slider.value = i;
      slider.setAttribute("aria-valuetext", labels[i]);
      output.textContent = labels[i];
      keep("sessionStorage", key, i === last ? "" : labels[i]);
      show(i);
    };
    const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
    slider.max = last;
    slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
    button.addEventListener("click", () => {
      if (timer !== null) { stop(); return; }
      if (Number(slider.value) === last) go(0);
      button.textContent = "Pause";
      timer = setInterval(() => {
        const next = Number(slider.value) + 1;
        if (next > last) stop(); else go(next);
      }, Math.max(80, Math.min(400, 8000 / labels.length)));
    });
    if (last === 0) { button.hidden = true; slider.hidden = true; }
    const before = labels.indexOf(kept("sessionStorage", key) || "");
    go(before < 0 ? last : before);
    redraws.push(() => show(Number(slider.value)));
  };

  all("figure.slides").forEach((figure) => {
    const data = dataOf(figure), image = figure.querySelector("img"), alt = image.alt;
    player(figure, data.labels, (i) => { image.src = data.sources[i]; image.alt = `${alt}, ${data.labels[i]}`; });
  });

  all("figure.densities").forEach((figure) => {
    const data = dataOf(figure);
    const lines = (i) => data.series.map((line) => ({ ...line, y: line.frames ? line.frames[i] : line.y }));
    const chart = draw(figure, { ...data, points: false, series: lines(0) });
    player(figure, data.steps, (i) => chart.set(lines(i)));
  });

  // ------------------------------------------------------------------------------------- samples of two dimensions

  // Places are whole numbers from 0 to 1000 along each axis, of the square that `range` gives.
  all("figure.scene").forEach((figure) => {
    const data = dataOf(figure), canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
    const layers = { surface: "discriminator's score", data: "data", samples: "samples G(z)", grid: "image of a grid of z", arrows: "where the generator's loss pulls the samples" };
    const tints = { surface: "muted", data: "c0", samples: "c1", grid: "c2", arrows: "c3" };
    const on = {};
    let now = 0;
    const side = 1000;
    let letters, left, inner, top;
    const fit = () => { // letters are as large on a phone
      letters = Math.max(22, 12 * side / Math.max(1, canvas.clientWidth));
      left = 3.2 * letters; inner = side - left - 16; top = 16;
    };
    const ticks = (low, high) => { // round numbers, four to eight of them
      const step = steps.find((size) => (high - low) / size < 8), first = Math.ceil(low / step);
      return [...Array(Math.floor(high / step) - first + 1).keys()].map((i) => (first + i) * step);
    };
    const at = (points, i) => [left + points[2 * i] / 1000 * inner, top + (1 - points[2 * i + 1] / 1000) * inner];
    canvas.width = canvas.height = side;

    const dots = (points, tint, size) => {
      pen.fillStyle = color(tint);
      for (let i = 0; i < points.length / 2; i++) {
        const [x, y] = at(points, i);
        pen.beginPath(); pen.arc(x, y, size, 0, 2 * Math.PI); pen.fill();
      }
    };
    const surface = (frame) => {
      const n = data.side, image = document.createElement("canvas"), [low, high] = ["back", "muted"].map((c) => color(c).match(/[\d.]+/g).map(Number));
      image.width = image.height = n;
      const brush = image.getContext("2d"), pixels = brush.createImageData(n, n);
      frame.surface.forEach((value, i) => {
        const share = value / 255 * 0.75, row = n - 1 - i % n, place = 4 * (row * n + Math.floor(i / n)); // i: x first, then y
        for (let c = 0; c < 3; c++) pixels.data[place + c] = low[c] + (high[c] - low[c]) * share;
        pixels.data[place + 3] = 255;
      });
      brush.putImageData(pixels, 0, 0);
      pen.imageSmoothingEnabled = true;
      pen.drawImage(image, left, top, inner, inner);
    };
    const grid = (frame) => {
      pen.strokeStyle = color("c2"); pen.lineWidth = 1.5;
      const [rows, columns] = data.grid, line = (indices) => {
        pen.beginPath();
        indices.forEach((i, k) => (k ? pen.lineTo(...at(frame.grid, i)) : pen.moveTo(...at(frame.grid, i))));
        pen.stroke();
      };
      const range = (n) => [...Array(n).keys()];
      range(rows).forEach((r) => line(range(columns).map((c) => r * columns + c)));
      if (rows > 1) range(columns).forEach((c) => line(range(rows).map((r) => r * columns + c)));
    };
    const arrows = (frame) => {
      pen.strokeStyle = color("c3"); pen.lineWidth = 1.5;
      for (let i = 0; i < frame.arrows.length / 2; i++) {
        const [x, y] = at(frame.samples, i), dx = frame.arrows[2 * i], dy = -frame.arrows[2 * i + 1], turn = Math.atan2(dy, dx);
        if (!dx && !dy) continue;
        pen.beginPath(); pen.moveTo(x, y); pen.lineTo(x + dx, y + dy);
        for (const bend of [2.6, -2.6]) { pen.moveTo(x + dx, y + dy); pen.lineTo(x + dx + 7 * Math.cos(turn + bend), y + dy + 7 * Math.sin(turn + bend)); }
        pen.stroke();
      }
    };
    const axes = () => {
      pen.strokeStyle = color("muted"); pen.lineWidth = 1; pen.strokeRect(left, top, inner, inner);
      pen.fillStyle = color("text"); pen.font = `${letters}px system-ui, sans-serif`;
      const [x0, x1, y0, y1] = data.range;
      const axis = (low, high, name, outward) => { // along the first axis of the pen, its texts on the side `outward`
        pen.textAlign = "center"; pen.textBaseline = outward > 0 ? "top" : "bottom";
        for (const tick of ticks(low, high)) {
          const place = (tick - low) / (high - low) * inner;
          pen.beginPath(); pen.moveTo(place, 0); pen.lineTo(place, 0.4 * letters * outward); pen.stroke();
          pen.fillText(short(tick), place, 0.6 * letters * outward);
        }
        pen.fillText(name, inner / 2, 1.8 * letters * outward);
      };
      pen.save(); pen.translate(left, top + inner); axis(x0, x1, "x₁", 1);
      pen.rotate(-Math.PI / 2); axis(y0, y1, "x₂", -1); pen.restore();
    };
    const show = (i) => {
      now = i;
      const frame = data.frames[i];
      fit();
      pen.fillStyle = color("back"); pen.fillRect(0, 0, side, side);
      pen.save(); pen.beginPath(); pen.rect(left, top, inner, inner); pen.clip();
      if (on.surface && frame.surface) surface(frame);
      if (on.data) dots(data.data, "c0", 3.5);
      if (on.grid && frame.grid) grid(frame);
      if (on.samples) dots(frame.samples, "c1", 4);
      if (on.arrows && frame.arrows) arrows(frame);
      pen.restore();
      axes();
    };
    for (const [name, label] of Object.entries(layers)) {
      if (name === "data" ? !data.data.length : name !== "samples" && !data.frames.some((frame) => frame[name])) continue;
      on[name] = !["grid", "arrows"].includes(name);
      const box = make("input", { type: "checkbox" });
      box.checked = on[name];
      const key = make("span", { class: "key", "aria-hidden": "true" });
      key.style.background = `var(--${tints[name]})`;
      box.addEventListener("change", () => { on[name] = box.checked; show(now); });
      figure.querySelector(".layers").append(make("label", {}, box, key, label));
    }
    player(figure, data.labels, show);
    new ResizeObserver(() => show(now)).observe(canvas);
  });

  // ----------------------------------------------------------------------------------------------------- the rest

  const heat = () => {
    const [low, high] = ["back", "c0"].map((name) => color(name).match(/[\d.]+/g).map(Number));
    for (const cell of all("td.heat")) {
      const share = 0.45 * Number(cell.dataset.share);
      cell.style.background = `rgb(${[0, 1, 2].map((c) => Math.round(low[c] + (high[c] - low[c]) * share)).join(", ")})`;
    }
  };
  heat();
  redraws.push(heat);

  all("button.copy").forEach((button) => button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // to copy by keys
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }));

  const again = document.querySelector(".again input");
  if (again) {
    again.checked = kept("sessionStorage", "ganframe-again") !== "no";
    again.addEventListener("change", () => keep("sessionStorage", "ganframe-again", again.checked ? "" : "no"));
    setInterval(() => { if (again.checked && !document.hidden) location.reload(); }, 10000);
  }
  root.dataset.ready = "yes";
})();
