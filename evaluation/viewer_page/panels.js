"use strict";
/* The panels: which there are, how large, where they are zoomed to, and what is highlighted under the pointer. */
(() => {
  const { el } = viewer;
  const SMALL = window.matchMedia("(max-width: 760px)");
  const LARGEST_CANVAS = 1.6e6; // pixels of one panel beyond which a dense screen is painted at single density
  const panels = [];
  let scene = null; // what is shown, or null
  let shown = null; // its entry of run.images
  let marks = null; // {truth: Uint8Array, runs: Uint8Array[]}: what is highlighted
  let selected = null; // [side, place] of the segment that a click or the list chose
  let point = null; // [x, y] in the image, under the pointer
  let container, status, key, controls;
  let frame = 0;
  let wanted = 0;

  const ofRuns = (names) => names.slice(0, viewer.run.runs.length);
  const titles = () => {
    const { runs } = viewer.run;
    const two = runs.length === 2;
    const letter = "AB"[viewer.state.run];
    return {
      image: "Image",
      truth: "Truth",
      a: two ? `Prediction A: ${runs[0].name}` : "Prediction",
      b: two ? `Prediction B: ${runs[1].name}` : "",
      changes: "What changed from A to B",
      difference: two ? `Difference of ${letter} from the truth` : "Difference",
    };
  };
  const shortTitles = { image: "Image", truth: "Truth", a: "A", b: "B", changes: "Changed", difference: "Difference" };

  /** Names of the panels that this image has. */
  const present = () =>
    panels
      .map(({ name }) => name)
      .filter((name) => {
        if (name === "image") return !shown || shown.picture !== null;
        return !scene || scene.truth || name === "a" || name === "b";
      });
  /** Names of the panels in sight: all, or the one that is maximised; on a small screen always one. */
  const inSight = () => {
    const names = present();
    const { panel } = viewer.state;
    if (names.includes(panel)) return [panel];
    if (!SMALL.matches) return names;
    return [["difference", "truth", "a"].find((name) => names.includes(name))];
  };

  const makePanel = (name, number) => {
    const picture = el("img", { alt: "", draggable: "false" });
    const canvas = el("canvas", { "aria-hidden": "true" });
    const cross = el("span.cross", { hidden: true });
    const view = el("div.view", {}, picture, canvas, cross);
    const title = el("button.title", { title: `This panel alone, or all (${number})`, click: () => toggle(name) });
    const element = el("figure.panel", { "data-panel": name }, title, view);
    const panel = { name, number, element, title, view, picture, canvas, cross, context: canvas.getContext("2d"), pixels: null };
    listen(panel);
    return panel;
  };
  const toggle = (name) => viewer.set({ panel: viewer.state.panel === name && !SMALL.matches ? "" : name });
  /** Maximise the panel of this number, from 1. */
  viewer.togglePanel = (number) => {
    const names = present();
    if (names[number - 1]) toggle(names[number - 1]);
  };

  // --- where the image lies in a panel -----------------------------------------------------------------------------------

  const placement = (panel) => {
    const { clientWidth: width, clientHeight: height } = panel.view;
    const fit = Math.min(width / scene.width, height / scene.height);
    const scale = fit * viewer.state.zoom;
    const start = (length, size, centre) => {
      const free = length - size * scale;
      return free >= 0 ? free / 2 : Math.min(0, Math.max(free, length / 2 - centre * size * scale));
    };
    return {
      scale,
      fit,
      left: start(width, scene.width, viewer.state.x),
      top: start(height, scene.height, viewer.state.y),
      width,
      height,
    };
  };
  const toImage = (panel, event) => {
    const box = panel.view.getBoundingClientRect();
    const { scale, left, top } = placement(panel);
    return [(event.clientX - box.left - left) / scale, (event.clientY - box.top - top) / scale];
  };

  /** Zoom by a factor; the pixel (x, y) of the image stays where it is on the panel's view, or else the centre does. */
  const zoomAt = (panel, factor, event) => {
    if (!scene) return;
    const { scale, fit, left, top, width, height } = placement(panel);
    const zoom = Math.min(Math.max(viewer.state.zoom * factor, 1), Math.max(8, 40 / fit));
    const box = panel.view.getBoundingClientRect();
    const [onX, onY] = event ? [event.clientX - box.left, event.clientY - box.top] : [width / 2, height / 2];
    const next = fit * zoom;
    const centre = (on, length, start, size) => ((on - start) / scale - (on - length / 2) / next) / size;
    setView(panel, zoom, centre(onX, width, left, scene.width), centre(onY, height, top, scene.height));
  };
  const setView = (panel, zoom, x, y) => {
    const { fit, width, height } = placement(panel);
    const clamp = (centre, length, size) => {
      const seen = length / (2 * fit * zoom * size);
      return seen >= 0.5 ? 0.5 : Math.min(Math.max(centre, seen), 1 - seen);
    };
    viewer.set({ zoom, x: clamp(x, width, scene.width), y: clamp(y, height, scene.height) }, { passing: true });
  };
  const anyPanel = () => panels.find(({ name }) => name === inSight()[0]);
  viewer.zoomBy = (factor) => zoomAt(anyPanel(), factor);
  viewer.zoomOut = () => viewer.set({ zoom: 1, x: 0.5, y: 0.5 }, { passing: true });
  /** Zoom to a box (x, y, width, height) of the image, with some of what is around it. */
  viewer.zoomTo = ([x, y, width, height]) => {
    if (!scene) return;
    const panel = anyPanel();
    const view = placement(panel);
    const margin = 0.04 * Math.max(scene.width, scene.height);
    const scale = Math.min(view.width / (width + 2 * margin), view.height / (height + 2 * margin));
    setView(panel, Math.min(Math.max(scale / view.fit, 1), 24), (x + width / 2) / scene.width, (y + height / 2) / scene.height);
  };

  const listen = (panel) => {
    const pointers = new Map();
    let moved = 0;
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return {
        distance: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
        clientX: (a.clientX + b.clientX) / 2,
        clientY: (a.clientY + b.clientY) / 2,
      };
    };
    const pan = (dx, dy) => {
      const { scale } = placement(panel);
      setView(
        panel,
        viewer.state.zoom,
        viewer.state.x - dx / (scale * scene.width),
        viewer.state.y - dy / (scale * scene.height),
      );
    };
    panel.view.addEventListener(
      "wheel",
      (event) => {
        // On the overview the page itself is to scroll, until somebody has zoomed.
        if (!scene || (viewer.state.view === "overview" && viewer.state.zoom === 1 && !event.ctrlKey)) return;
        event.preventDefault();
        const step = event.deltaMode === 1 ? 30 * event.deltaY : event.deltaY;
        zoomAt(panel, Math.exp(-Math.max(-200, Math.min(200, step)) * (event.ctrlKey ? 0.01 : 0.002)), event);
      },
      { passive: false },
    );
    panel.view.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !scene) return;
      if (!pointers.size) moved = 0;
      pointers.set(event.pointerId, event);
      panel.view.setPointerCapture(event.pointerId);
    });
    panel.view.addEventListener("pointermove", (event) => {
      if (!scene) return;
      const before = pointers.get(event.pointerId);
      if (!before) return hover(panel, event);
      const old = pointers.size === 2 ? spread() : null;
      pointers.set(event.pointerId, event);
      const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
      moved += Math.hypot(dx, dy);
      if (old) {
        const now = spread();
        pan(now.clientX - old.clientX, now.clientY - old.clientY);
        zoomAt(panel, now.distance / Math.max(old.distance, 1), now);
      } else if (moved > 3) pan(dx, dy);
    });
    const end = (event) => {
      if (!pointers.delete(event.pointerId) || moved > 3 || event.type !== "pointerup" || !scene) return;
      hover(panel, event);
      const under = segmentAt(panel, point);
      viewer.select(under);
    };
    panel.view.addEventListener("pointerup", end);
    panel.view.addEventListener("pointercancel", end);
    panel.view.addEventListener("dblclick", (event) => zoomAt(panel, event.shiftKey ? 0.5 : 2, event));
    panel.view.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "mouse") return;
      point = null;
      highlight(selected);
    });
  };

  // --- what is under the pointer -----------------------------------------------------------------------------------------

  /** Places from 1 under a pixel: {truth, runs}. */
  const under = ([x, y]) => {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column < 0 || row < 0 || column >= scene.width || row >= scene.height) return null;
    const k = row * scene.width + column;
    return { k, truth: scene.truth ? scene.truth.map[k] : 0, runs: scene.runs.map((run) => run.map[k]) };
  };
  const segmentAt = (panel, at) => {
    const found = at && under(at);
    if (!found) return null;
    if (panel.name === "a" || panel.name === "b") {
      const k = panel.name === "a" ? 0 : 1;
      return found.runs[k] ? [`run${k}`, found.runs[k] - 1] : null;
    }
    if (found.truth) return ["truth", found.truth - 1];
    return found.runs[viewer.state.run] ? [`run${viewer.state.run}`, found.runs[viewer.state.run] - 1] : null;
  };
  const runOf = (side) => (side === "truth" ? null : Number(side.slice(3)));

  /** The segment and its partners: places of the truth and of each run. */
  const family = ([side, place]) => {
    const run = runOf(side);
    const truths = run === null ? [place] : scene.runs[run].segments[place].partners || [];
    const runs = scene.runs.map((entry, k) => {
      if (k === run) return [place];
      return truths.flatMap((truth) => (entry.truths[truth] ? entry.truths[truth].partners : []));
    });
    return { truths, runs };
  };
  const highlight = (chosen) => {
    marks = null;
    if (chosen && scene) {
      const { truths, runs } = family(chosen);
      const flags = (side, places) => {
        const marked = new Uint8Array((side ? side.segments.length : 0) + 1);
        for (const place of places) marked[place + 1] = 1;
        return marked;
      };
      marks = { truth: flags(scene.truth, truths), runs: runs.map((places, k) => flags(scene.runs[k], places)) };
    }
    showStatus(chosen);
    draw();
  };
  const hover = (panel, event) => {
    point = toImage(panel, event);
    highlight(segmentAt(panel, point) || selected);
  };

  /** Highlight a segment until another is chosen: ["truth" | "run0" | "run1", place], or null. */
  viewer.select = (chosen, { zoom = false } = {}) => {
    selected = chosen;
    if (!scene) return;
    highlight(chosen);
    if (zoom && chosen) viewer.zoomTo(viewer.segment(scene, chosen).box);
    viewer.markSelected(chosen);
  };
  /** Highlight for as long as the pointer or the focus is on an entry of the list. */
  viewer.preview = (chosen) => {
    point = null;
    highlight(chosen || selected);
  };
  viewer.segment = (of, [side, place]) => (side === "truth" ? of.truth : of.runs[runOf(side)]).segments[place];

  /** What is known of a segment, in a line. */
  viewer.describe = (of, [side, place], run) => {
    const segment = viewer.segment(of, [side, place]);
    const outcome = side === "truth" ? of.runs[run] && of.runs[run].truths[place] : segment;
    const kind = outcome && outcome.kind !== undefined ? viewer.run.kinds[outcome.kind] : null;
    const parts = [`${viewer.count(segment.area)} px`];
    if (segment.score !== null && segment.score !== undefined) parts.push(`score ${segment.score.toFixed(2)}`);
    if (segment.is_crowd) parts.push("crowd, not counted");
    if (kind) parts.push(outcome.iou ? `${kind}, IoU ${outcome.iou.toFixed(2)}` : kind);
    return { name: viewer.run.classes[segment.class].name, id: `#${segment.id}`, color: segment.color, text: parts.join(" · ") };
  };

  const statusLine = (label, chosen, run) => {
    if (!chosen) return el("div.line", {}, el("span.side", {}, label), el("span.soft", {}, "nothing here"));
    const said = viewer.describe(scene, chosen, run);
    return el(
      "div.line",
      {},
      el("span.side", {}, label),
      viewer.swatch(said.color),
      el("b", {}, said.name),
      el("span.id", {}, said.id),
      el("span.soft", {}, said.text),
    );
  };
  const showStatus = (chosen) => {
    const found = point && scene && under(point);
    const { runs } = viewer.run;
    const letters = runs.length === 2 ? ["Prediction A", "Prediction B"] : ["Prediction"];
    const lines = [];
    if (scene && (found || chosen)) {
      const { truths, runs: places } = found
        ? { truths: found.truth ? [found.truth - 1] : [], runs: found.runs.map((p) => (p ? [p - 1] : [])) }
        : family(chosen);
      const of = (side, list, label, run) => {
        if (list.length < 2) return [statusLine(label, list.length ? [side, list[0]] : null, run)];
        const more = statusLine(label, [side, list[0]], run);
        more.append(el("span.soft", {}, `and ${list.length - 1} more`));
        return [more];
      };
      if (scene.truth) {
        lines.push(
          ...of("truth", truths, runs.length === 2 ? `Truth, for ${"AB"[viewer.state.run]}` : "Truth", viewer.state.run),
        );
      }
      places.forEach((list, k) => lines.push(...of(`run${k}`, list, letters[k], k)));
      if (found && scene.truth && scene.runs.length) {
        const verdict = viewer.VERDICTS[viewer.errorCodes(scene, viewer.state.run)[found.k]];
        lines[0].append(el("span.verdict", {}, viewer.swatch(verdict.color), `this pixel: ${verdict.name}`));
      }
    } else
      lines.push(
        el(
          "div.line.soft",
          {},
          "Point at a segment, tap it, or choose one below: its class, id, score, IoU and kind of error stand here.",
        ),
      );
    status.replaceChildren(...lines);
  };

  // --- painting ----------------------------------------------------------------------------------------------------------

  const draw = () => {
    frame =
      frame ||
      requestAnimationFrame(() => {
        frame = 0;
        if (scene) for (const name of inSight()) drawPanel(panels.find((panel) => panel.name === name));
      });
  };
  viewer.redraw = draw;

  const drawPanel = (panel) => {
    const { name, canvas, picture, cross, context } = panel;
    const { scale, left, top, width, height } = placement(panel);
    if (!width || !height) return;
    const { opacity, outlines, run } = viewer.state;
    let density = Math.min(window.devicePixelRatio || 1, 2);
    if (width * height * density ** 2 > LARGEST_CANVAS) density = 1;
    const [columns, rows] = [Math.round(width * density), Math.round(height * density)];
    if (canvas.width !== columns || canvas.height !== rows || !panel.pixels) {
      canvas.width = columns;
      canvas.height = rows;
      panel.pixels = context.createImageData(columns, rows);
      panel.colors = new Uint32Array(panel.pixels.data.buffer);
    }
    const hasPicture = shown.picture !== null && !panel.isLost;
    picture.hidden = !hasPicture;
    picture.style.width = `${scene.width}px`;
    picture.style.height = `${scene.height}px`;
    picture.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    picture.style.imageRendering = scale >= 2 ? "pixelated" : "auto";
    const xs = viewer.sample(columns, left * density, scale * density, scene.width);
    const ys = viewer.sample(rows, top * density, scale * density, scene.height);
    const out = panel.colors;
    const painting = viewer.paintingOf(scene, name, hasPicture ? opacity : 1);
    if (painting) viewer.paint(out, xs, ys, scene.width, painting, outlines);
    else out.fill(0);
    const own = name === "a" ? 0 : name === "b" ? 1 : run;
    for (const [side, flags] of problemMarks()) {
      const isHere = side === "truth" ? ["image", "truth"].includes(name) : ["a", "difference"].includes(name);
      if (isHere)
        viewer.paintMarks(
          out,
          xs,
          ys,
          scene.width,
          side === "truth" ? scene.truth.map : scene.runs[0].map,
          flags,
          0xff4a4aff,
          false,
        );
    }
    if (marks) {
      if (scene.truth) viewer.paintMarks(out, xs, ys, scene.width, scene.truth.map, marks.truth, 0xffffffff, false);
      if (scene.runs[own]) viewer.paintMarks(out, xs, ys, scene.width, scene.runs[own].map, marks.runs[own], 0xff4ee1ff, true);
    }
    context.putImageData(panel.pixels, 0, 0);
    drawBoxes(panel, scale * density, left * density, top * density, density);
    cross.hidden = !point;
    if (point) cross.style.transform = `translate(${left + point[0] * scale}px, ${top + point[1] * scale}px)`;
  };

  const problemsShown = () =>
    scene.problems.filter(({ problem }) => viewer.state.problem < 0 || problem === viewer.state.problem);
  const problemMarks = () => {
    const sides = { truth: scene.truth, prediction: scene.runs[0] };
    return Object.entries(sides).flatMap(([side, entry]) => {
      const places = problemsShown()
        .filter((problem) => problem.side === side)
        .flatMap(({ segments }) => segments);
      if (!entry || !places.length) return [];
      const flags = new Uint8Array(entry.segments.length + 1);
      for (const place of places) flags[place + 1] = 1;
      return [[side, flags]];
    });
  };
  const drawBoxes = ({ name, context }, scale, left, top, density) => {
    context.lineWidth = 2 * density;
    for (const { problem, side, box } of problemsShown()) {
      const isHere = name === "image" || (side === "truth" ? name === "truth" : name === "a");
      if (!box || !isHere) continue;
      const isBroken = viewer.run.problems[problem].level === "broken";
      context.setLineDash(isBroken ? [] : [7 * density, 5 * density]);
      context.strokeStyle = isBroken ? "#ff3b3b" : "#ffb020";
      context.strokeRect(left + box[0] * scale - 2, top + box[1] * scale - 2, box[2] * scale + 4, box[3] * scale + 4);
    }
    context.setLineDash([]);
  };

  // --- layout ------------------------------------------------------------------------------------------------------------

  /** Columns of the grid in which images of this shape become largest, where `height` is what the grid may take. */
  const bestColumns = (number, width, height, aspect) => {
    let best = { columns: 1, size: 0 };
    for (let columns = 1; columns <= number; columns++) {
      const cell = Math.min(width / columns, (height / Math.ceil(number / columns) - 24) * aspect);
      if (cell > best.size * 1.02) best = { columns, size: cell };
    }
    return best.columns;
  };
  const layOut = () => {
    const names = inSight();
    const labels = titles();
    const isRun = { a: 0, b: 1 };
    for (const panel of panels) {
      panel.element.hidden = !names.includes(panel.name);
      panel.title.replaceChildren(
        el("span.number", { "aria-hidden": "true" }, String(present().indexOf(panel.name) + 1)),
        labels[panel.name],
      );
      panel.title.setAttribute("aria-pressed", String(viewer.state.panel === panel.name));
      panel.element.classList.toggle("focused", viewer.run.runs.length === 2 && isRun[panel.name] === viewer.state.run);
    }
    if (shown) {
      const aspect = shown.size[1] / shown.size[0];
      const isOverview = viewer.state.view === "overview";
      const width = container.clientWidth;
      const top = container.getBoundingClientRect().top + viewer.byId("main").scrollTop;
      const free = isOverview || SMALL.matches ? Math.max(380, window.innerHeight - top - 44) : container.clientHeight;
      const columns = SMALL.matches ? 1 : bestColumns(names.length, width, free, aspect);
      const rows = Math.ceil(names.length / columns);
      container.style.setProperty("--columns", columns);
      container.style.setProperty("--rows", rows);
      const cell = Math.max(120, Math.min((width - 8 * (columns - 1)) / columns / aspect, free / rows - 24));
      container.style.setProperty("--cell", isOverview || SMALL.matches ? `${Math.round(cell) + 24}px` : "minmax(0, 1fr)");
    }
    for (const tab of controls.tabs.children) {
      tab.hidden = !present().includes(tab.dataset.panel) && tab.dataset.panel !== "all";
      const isChosen = names.length === 1 ? tab.dataset.panel === names[0] : tab.dataset.panel === "all";
      tab.setAttribute("aria-pressed", String(isChosen));
    }
    showKey(names);
    draw();
  };

  const showKey = (names) => {
    const entries = names.includes("difference") ? viewer.VERDICTS : [];
    const changes = names.includes("changes") ? viewer.CHANGES : [];
    const group = (title, list) =>
      list.length
        ? [
            el(
              "div.key",
              {},
              el("span.soft", {}, title),
              ...list.map((entry) => el("span.entry", {}, viewer.swatch(entry.color, entry.hatched), entry.name)),
            ),
          ]
        : [];
    key.replaceChildren(...group("Difference", entries), ...group("Changed", changes));
  };

  const buildToolbar = () => {
    const { runs } = viewer.run;
    const button = (text, label, click) => el("button", { "aria-label": label, title: label, click }, text);
    const tabs = el(
      "span.tabs",
      { role: "group", "aria-label": "Panels" },
      el("button", { "data-panel": "all", click: () => viewer.set({ panel: "" }) }, "All"),
    );
    for (const { name } of panels) {
      tabs.append(
        el(
          "button",
          { "data-panel": name, click: () => viewer.set({ panel: name }) },
          name === "a" && runs.length === 1 ? "Prediction" : shortTitles[name],
        ),
      );
    }
    const opacity = el("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.05,
      "aria-label": "Opacity of the maps over the image",
      input: (event) => viewer.set({ opacity: Number(event.target.value) }, { passing: true }),
    });
    const outlines = el("input", { type: "checkbox", change: (event) => viewer.set({ outlines: event.target.checked }) });
    const zoom = el("output.zoom", { "aria-label": "Zoom" });
    const zooms = el(
      "span.zooms",
      { role: "group", "aria-label": "Zoom" },
      button("−", "Zoom out (−)", () => viewer.zoomBy(1 / 1.5)),
      zoom,
      button("+", "Zoom in (+)", () => viewer.zoomBy(1.5)),
      button("fit", "Whole image (0)", viewer.zoomOut),
    );
    const both =
      runs.length === 2
        ? el("button.ab", { click: viewer.switchRun, title: "The prediction that lists, kinds and difference are of (c)" })
        : null;
    controls = { tabs, opacity, outlines, zoom, both };
    viewer
      .byId("toolbar")
      .append(
        tabs,
        el("span.grow"),
        ...(both ? [both] : []),
        el("label.slider", {}, el("span", {}, "opacity"), opacity),
        el("label.check", {}, outlines, "outlines"),
        zooms,
      );
  };
  const showToolbar = () => {
    controls.opacity.value = viewer.state.opacity;
    controls.outlines.checked = viewer.state.outlines;
    container.classList.toggle("zoomed", viewer.state.zoom > 1); // then a finger moves the image, not the page
    controls.zoom.textContent = `${viewer.state.zoom.toFixed(viewer.state.zoom < 10 ? 1 : 0)}×`;
    if (controls.both)
      controls.both.replaceChildren(...[0, 1].map((k) => el(k === viewer.state.run ? "b" : "span", {}, "AB"[k])));
    if (controls.both)
      controls.both.setAttribute("aria-label", `Prediction ${"AB"[viewer.state.run]}; switch to ${"BA"[viewer.state.run]} (c)`);
  };
  /** From prediction A to B or back; a panel that shows one of them alone follows. */
  viewer.switchRun = () => {
    if (viewer.run.runs.length < 2) return;
    const { run, panel } = viewer.state;
    const other = { a: "b", b: "a" }[panel] || panel;
    viewer.set({ run: other !== panel ? ["a", "b"].indexOf(other) : 1 - run, panel: other });
  };

  const caption = () => {
    const parts = [el("b", { title: shown.id }, shown.id)];
    const scores = shown.runs.map((run, k) => `PQ ${viewer.run.runs.length === 2 ? `${"AB"[k]} ` : ""}${viewer.percent(run.pq)}`);
    if (shown.runs.length) {
      const { tp, fp, fn } = shown.runs[viewer.state.run];
      parts.push(el("span.numbers", {}, scores.join(" · ")), el("span.soft", {}, `${tp} found, ${fn} not found, ${fp} too many`));
    }
    if (viewer.state.view !== "overview") parts.push(el("span.soft", {}, `${shown.size[1]}×${shown.size[0]} px`));
    if (viewer.state.view === "overview" && shown === viewer.typicalImage() && shown.runs.length) {
      parts.push(el("span.chip", {}, "the image of median PQ"));
    }
    const steps = el(
      "span.steps",
      {},
      el("button", { click: () => viewer.stepImage(-1), "aria-label": "Previous image (left arrow)" }, "‹"),
      el("button", { click: () => viewer.stepImage(1), "aria-label": "Next image (right arrow)" }, "›"),
    );
    viewer.byId("caption").replaceChildren(el("div.words", {}, ...parts), steps);
  };

  const readNeighbours = (image) => {
    const list = viewer.listedImages();
    const place = list.indexOf(image);
    if (place < 0) return;
    for (const next of [list[place + 1], list[place - 1]]) {
      if (next) viewer.readScene(next.file).catch(() => {}); // what is wrong with it is said when it is shown
    }
  };

  const load = async () => {
    const image = viewer.shownImage();
    if (!image) return;
    const turn = ++wanted;
    if (shown !== image) {
      selected = marks = point = null;
      shown = image;
    }
    caption();
    viewer.byId("stage").setAttribute("aria-busy", "true");
    try {
      const found = await viewer.readScene(image.file);
      if (turn !== wanted) return;
      scene = found;
      viewer.say("");
    } catch (error) {
      if (turn !== wanted) return;
      scene = null;
      for (const panel of panels) panel.context.clearRect(0, 0, panel.canvas.width, panel.canvas.height);
      viewer.say(error.message);
    }
    for (const panel of panels) {
      panel.isLost = false;
      if (image.picture && scene) panel.picture.src = image.picture;
      else panel.picture.removeAttribute("src");
    }
    viewer.byId("stage").setAttribute("aria-busy", "false");
    viewer.byId("stage").dataset.image = scene ? image.id : "";
    layOut();
    showStatus(null);
    viewer.showSegments(scene, image);
    setTimeout(() => {
      if (turn === wanted && scene) readNeighbours(image);
    }, 80); // this image comes first
  };

  viewer.buildPanels = () => {
    const two = viewer.run.runs.length === 2;
    const names = two
      ? ["image", "truth", "changes", "a", "b", "difference"]
      : ["image", "truth", ...ofRuns(["a"]), ...ofRuns(["difference"])];
    [container, status, key] = ["panels", "status", "key"].map(viewer.byId);
    names.forEach((name, k) => panels.push(makePanel(name, k + 1)));
    for (const panel of panels)
      panel.picture.addEventListener("error", () => {
        panel.isLost = true;
        draw();
      });
    container.append(...panels.map(({ element }) => element));
    buildToolbar();
    showToolbar();
    new ResizeObserver(layOut).observe(container);
    SMALL.addEventListener("change", layOut);
    viewer.onChange((changed) => {
      showToolbar();
      if (changed.has("image")) {
        if (!changed.has("zoom")) Object.assign(viewer.state, { zoom: 1, x: 0.5, y: 0.5 });
        load();
      } else if (["panel", "view", "run"].some((name) => changed.has(name))) {
        if (shown) caption();
        layOut();
      } else if (["zoom", "x", "y", "opacity", "outlines", "cls", "kind", "problem"].some((name) => changed.has(name))) draw();
    });
    return load();
  };
})();
