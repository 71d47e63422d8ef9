"use strict";
/* The table of images, of which only the rows in sight exist, and the filters above it. */
(() => {
  const { el } = viewer;
  const ROW = 30; // pixels, as in viewer.css
  const MORE_IS_NEWS = new Set(["tp", "fp", "fn", "kind", "problems"]); // columns that are sorted from the top first
  let list = [];
  let columns = [];
  let scroller, body, header, counter, inputs;
  let nameWidth = 110; // pixels
  let commonEnd = ""; // of all names, such as _leftImg8bit

  const option = (value, text) => el("option", { value }, text);

  const buildFilters = () => {
    const { run } = viewer;
    const set = (key, read) => (event) => viewer.set({ [key]: read(event.target) }, { passing: event.target.type === "search" });
    const text = el("input", {
      type: "search",
      id: "search",
      placeholder: "Search images  ( / )",
      "aria-label": "Search images by name",
      autocomplete: "off",
      input: set("text", (t) => t.value),
    });
    inputs = { text };
    const form = viewer.byId("filters");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.append(text);
    if (run.runs.length) {
      const byName = run.classes.map((entry, k) => [entry.name, k]).sort((a, b) => viewer.compare(a[0], b[0]));
      inputs.cls = el(
        "select",
        { "aria-label": "Class", change: set("cls", (t) => Number(t.value)) },
        option(-1, "All classes"),
        ...byName.map(([name, k]) => option(k, name)),
      );
      inputs.kind = el(
        "select",
        { "aria-label": "Kind of error", change: set("kind", (t) => Number(t.value)) },
        option(-1, "All kinds"),
        ...run.kinds.map((name, k) => option(k, name)),
      );
      const bound = (key, label) =>
        el("input", {
          type: "number",
          min: 0,
          max: 100,
          step: "any",
          placeholder: label,
          "aria-label": `PQ ${label}`,
          change: set(key, (t) => t.value),
        });
      inputs.low = bound("low", "from");
      inputs.high = bound("high", "to");
      form.append(inputs.cls, inputs.kind, el("label.range", {}, "PQ", inputs.low, "–", inputs.high));
    }
    if (run.runs.length === 2) {
      inputs.changed = el("input", { type: "checkbox", change: set("changed", (t) => t.checked) });
      form.append(el("label.check", {}, inputs.changed, "changed only"));
    }
    if (run.problems.length) {
      inputs.problem = el(
        "select",
        { "aria-label": "Problem of the labels", change: set("problem", (t) => Number(t.value)) },
        option(-1, "With or without problems"),
        ...run.problems.map((problem, k) => option(k, problem.kind)),
      );
      form.append(inputs.problem);
    }
    counter = el("span.count", { role: "status" });
    form.append(
      el(
        "div.found",
        {},
        counter,
        el("button.plain", { id: "no-filters", click: () => viewer.set({ ...viewer.noFilters }) }, "Clear filters"),
      ),
    );
  };

  const showFilters = () => {
    for (const [key, input] of Object.entries(inputs)) {
      if (input.type === "checkbox") input.checked = viewer.state[key];
      else if (input.value !== String(viewer.state[key])) input.value = viewer.state[key];
    }
    const total = viewer.run.images.length;
    counter.textContent = `${viewer.count(list.length)} of ${viewer.plural(total, "image")}`;
    viewer.byId("no-filters").hidden = !viewer.isFiltered();
  };

  const sortBy = (key) => {
    if (key === viewer.sortKey()) viewer.set({ sort: key, descending: !viewer.state.descending });
    else viewer.set({ sort: key, descending: MORE_IS_NEWS.has(key) });
  };

  const widthOf = ({ key, title }) => {
    if (key.startsWith("own:")) return Math.min(Math.max(8 * title.length + 26, 76), 130);
    if (key === viewer.sortKey()) return Math.max(52, 8 * title.length + 24);
    return Math.max(/^(tp|fp|fn)$/.test(key) ? 39 : 52, 8 * title.length + 17);
  };
  /** Of the column of names: what the longest needs, within limits. */
  const measureNames = () => {
    const names = viewer.run.images.map(({ id }) => id);
    const longest = names.reduce((most, name) => Math.max(most, name.length), 0);
    commonEnd =
      names.length > 1
        ? names.reduce((end, name) => {
            let k = 0;
            while (k < end.length && k < name.length && end[end.length - 1 - k] === name[name.length - 1 - k]) k++;
            return k ? end.slice(-k) : "";
          })
        : "";
    commonEnd = (/[_./-].*$/.exec(commonEnd) || [""])[0]; // no part of a word or number
    nameWidth = Math.min(Math.max(110, 7.6 * (longest - commonEnd.length) + 12), 160);
  };

  const showHeader = () => {
    const buttons = columns.map(({ key, title, hint }) => {
      const cell = viewer.sortHeader("div.cell", title, hint, key === viewer.sortKey(), viewer.state.descending, () =>
        sortBy(key),
      );
      cell.dataset.key = key;
      return cell;
    });
    const focused = document.activeElement && document.activeElement.closest("#table .cell");
    header.replaceChildren(...buttons);
    if (focused)
      buttons
        .find((cell) => cell.dataset.key === focused.dataset.key)
        ?.querySelector("button")
        .focus();
    scroller.style.setProperty(
      "--columns",
      columns.map((column) => (column.key === "id" ? `minmax(${nameWidth}px, 1fr)` : `${widthOf(column)}px`)).join(" "),
    );
    const least = columns.reduce((total, column) => total + (column.key === "id" ? nameWidth : widthOf(column)), 12);
    scroller.style.setProperty("--least", `${least}px`);
    scroller.setAttribute("aria-colcount", columns.length);
  };

  /** A name whose end stays in sight, since names mostly differ there; what all names end in is left out of sight. */
  const nameCell = (name) => {
    const end = name.length - commonEnd.length;
    const cut = end > 16 ? end - 12 : end;
    return [
      el("span.head", {}, name.slice(0, cut)),
      el("span.tail", {}, name.slice(cut, end)),
      el("span", { hidden: true }, name.slice(end)),
    ];
  };

  const rowOf = (image, place) => {
    const isShown = image === viewer.shownImage();
    const cells = columns.map((column) => {
      const value = column.value(image);
      const text = column.show(value);
      if (column.key === "id") return el("div.cell.name", { role: "gridcell", title: text }, ...nameCell(text));
      const sign = column.key === "difference" && value ? (value > 0 ? ".better" : ".worse") : "";
      return el(`div.cell${sign}`, { role: "gridcell", title: text.length > 12 ? text : null }, text);
    });
    const choose = () => viewer.set({ image: image.id, view: "image" });
    const options = {
      role: "row",
      id: `row-${place}`,
      "aria-rowindex": place + 2,
      "aria-selected": String(isShown),
      style: { top: `${place * ROW}px` },
      click: choose,
    };
    return el("div.row", options, ...cells);
  };

  const showRows = () => {
    const head = header.offsetHeight;
    const first = Math.max(0, Math.floor((scroller.scrollTop - head) / ROW) - 4);
    const last = Math.min(list.length, first + Math.ceil(scroller.clientHeight / ROW) + 10);
    body.replaceChildren(...list.slice(first, last).map((image, k) => rowOf(image, first + k)));
    const place = list.indexOf(viewer.shownImage());
    if (place >= first && place < last) scroller.setAttribute("aria-activedescendant", `row-${place}`);
    else scroller.removeAttribute("aria-activedescendant");
  };

  const bringIntoSight = () => {
    const place = list.indexOf(viewer.shownImage());
    if (place < 0) return;
    const top = place * ROW;
    const seen = scroller.clientHeight - header.offsetHeight - ROW;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top > scroller.scrollTop + seen) scroller.scrollTop = top - seen;
  };

  /** The images in the order of the table. */
  viewer.listedImages = () => list;

  /** Show the image that is `step` further down; at the ends of the list nothing happens. */
  viewer.stepImage = (step) => {
    if (!list.length) return;
    const place = list.indexOf(viewer.shownImage());
    const next = place < 0 ? 0 : Math.min(Math.max(place + step, 0), list.length - 1);
    viewer.set({ image: list[next].id, view: viewer.state.view === "overview" ? "image" : viewer.state.view });
  };

  const refresh = () => {
    list = viewer.listImages();
    columns = viewer.imageColumns();
    body.style.setProperty("height", `${list.length * ROW}px`);
    scroller.setAttribute("aria-rowcount", list.length + 1);
    showFilters();
    showHeader();
    showRows();
  };

  viewer.buildTable = () => {
    measureNames();
    buildFilters();
    header = el("div.header", { role: "row" });
    body = el("div.body", { role: "rowgroup" });
    scroller = el("div.scroller", { role: "grid", tabindex: 0, "aria-label": "Images", scroll: showRows }, header, body);
    scroller.addEventListener("keydown", (event) => {
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -list.length, End: list.length };
      if (!(event.key in steps) || event.target !== scroller) return;
      event.preventDefault();
      viewer.stepImage(steps[event.key]);
    });
    viewer.byId("table").append(scroller);
    new ResizeObserver(showRows).observe(scroller);
    refresh();
    const relevant = ["sort", "descending", "run", ...Object.keys(viewer.noFilters)];
    viewer.onChange((changed) => {
      if (relevant.some((key) => changed.has(key))) {
        refresh();
        scroller.scrollTop = 0;
      }
      if (changed.has("image") || changed.has("view")) {
        bringIntoSight();
        showRows();
      }
    });
  };
})();
