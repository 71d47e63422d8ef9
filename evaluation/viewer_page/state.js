"use strict";
/* What the page shows, as a few plain values, and the same values in the address. */
(() => {
  /** Numbers of -1 and empty texts mean "none". zoom is 1 where the whole image fits; x and y are its centre, as fractions. */
  const DEFAULTS = {
    view: "overview",
    image: "",
    run: 0,
    panel: "", // panel: the one that is shown alone
    sort: "",
    descending: false,
    text: "",
    cls: -1,
    kind: -1,
    low: "",
    high: "",
    changed: false,
    problem: -1,
    zoom: 1,
    x: 0.5,
    y: 0.5,
    opacity: 0.6,
    outlines: true,
  };
  const listeners = [];
  let written = null;
  let pending = null;

  viewer.state = { ...DEFAULTS };

  const toHash = (state) => {
    const words = new URLSearchParams();
    for (const [key, value] of Object.entries(state)) {
      if (value === DEFAULTS[key]) continue;
      words.set(key, typeof value === "number" && !Number.isInteger(value) ? value.toFixed(4) : String(value));
    }
    return words.toString();
  };

  const fromHash = (hash) => {
    const state = { ...DEFAULTS };
    for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
      if (!(key in DEFAULTS)) continue;
      const kind = typeof DEFAULTS[key];
      if (kind === "boolean") state[key] = text === "true";
      else if (kind === "string") state[key] = text;
      else if (text !== "" && Number.isFinite(Number(text))) state[key] = Number(text);
    }
    return viewer.mendState(state);
  };

  /** Bring values that a link may hold, but this result has not, back to what can be shown. */
  viewer.mendState = (state) => {
    const { classes, kinds, runs, problems } = viewer.run;
    const place = (value, length, none) => (Number.isInteger(value) && value >= 0 && value < length ? value : none);
    const within = (value, low, high) => Math.min(Math.max(value, low), high);
    return {
      ...state,
      view: ["overview", "list", "image"].includes(state.view) ? state.view : "overview",
      run: place(state.run, runs.length, DEFAULTS.run),
      cls: place(state.cls, classes.length, -1),
      kind: place(state.kind, kinds.length, -1),
      problem: place(state.problem, problems.length, -1),
      zoom: within(state.zoom, 1, 200),
      x: within(state.x, 0, 1),
      y: within(state.y, 0, 1),
      opacity: within(state.opacity, 0, 1),
    };
  };

  const write = (replace) => {
    clearTimeout(pending);
    pending = null;
    const hash = toHash(viewer.state);
    if (hash === written) return;
    written = hash;
    history[replace ? "replaceState" : "pushState"](null, "", `#${hash}`);
  };

  const announce = (changed) => listeners.forEach((listener) => listener(changed));

  /** Call `listener(names of the values that changed)` after every change. */
  viewer.onChange = (listener) => listeners.push(listener);

  /**
   * Change values. A step that "back" should undo makes a history entry; zoom, opacity and typing only mend the present one.
   */
  viewer.set = (values, { passing = false } = {}) => {
    const next = viewer.mendState({ ...viewer.state, ...values });
    const changed = new Set(Object.keys(DEFAULTS).filter((key) => next[key] !== viewer.state[key]));
    if (!changed.size) return;
    if (pending !== null && !passing) write(true);
    viewer.state = next;
    if (passing) {
      clearTimeout(pending);
      pending = setTimeout(() => write(true), 250);
    } else write(false);
    announce(changed);
  };

  const follow = () => {
    const hash = location.hash.replace(/^#/, "");
    if (hash === written) return;
    clearTimeout(pending);
    pending = null;
    const next = fromHash(hash);
    const changed = new Set(Object.keys(DEFAULTS).filter((key) => next[key] !== viewer.state[key]));
    viewer.state = next;
    written = hash;
    announce(changed);
  };

  /** Read the address now and whenever it changes. */
  viewer.followAddress = () => {
    DEFAULTS.run = Math.max(0, viewer.run.runs.length - 1); // of two runs the second is the one that the report is about
    viewer.state = fromHash(location.hash);
    written = location.hash.replace(/^#/, "");
    window.addEventListener("hashchange", follow);
  };
})();
