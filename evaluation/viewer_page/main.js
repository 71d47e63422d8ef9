"use strict";
/* The start of the page: messages, views, keyboard, dark and light. */
(() => {
  const { el, byId } = viewer;

  /** A line at the top of the page for what went wrong; an empty text takes it away. */
  viewer.say = (text) => {
    byId("message").textContent = text;
    byId("message").hidden = !text;
  };

  const setTheme = (theme) => {
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("viewer-theme", theme);
    } catch {
      // Some browsers keep nothing for a page from disk: then the choice lasts as long as the page.
    }
  };
  const startTheme = () => {
    let kept = null;
    try {
      kept = localStorage.getItem("viewer-theme");
    } catch {
      // as above
    }
    if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
    byId("theme").addEventListener("click", () => {
      const prefersDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
      const now = document.documentElement.dataset.theme || (prefersDark ? "dark" : "light");
      setTheme(now === "dark" ? "light" : "dark");
    });
  };

  const showView = () => {
    document.body.dataset.view = viewer.state.view;
    for (const button of byId("views").children)
      button.setAttribute("aria-pressed", String(button.dataset.view === viewer.state.view));
  };

  const keys = {
    ArrowRight: () => viewer.stepImage(1),
    j: () => viewer.stepImage(1),
    ArrowLeft: () => viewer.stepImage(-1),
    k: () => viewer.stepImage(-1),
    "+": () => viewer.zoomBy(1.5),
    "=": () => viewer.zoomBy(1.5),
    "-": () => viewer.zoomBy(1 / 1.5),
    0: viewer.zoomOut,
    o: () => viewer.set({ outlines: !viewer.state.outlines }),
    c: viewer.switchRun,
    h: () => viewer.set({ view: "overview" }),
    "/": () => {
      if (window.matchMedia("(max-width: 760px)").matches) viewer.set({ view: "list" });
      byId("search").focus();
    },
    "?": () => byId("help").showModal(),
    Escape: () => viewer.select(null),
  };
  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const isField = event.target.closest("input, select, textarea");
    if (isField) {
      if (event.key === "Escape") isField.blur();
      return;
    }
    const number = /^[1-6]$/.test(event.key) ? Number(event.key) : 0;
    const action = number ? () => viewer.togglePanel(number) : Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (!action) return;
    event.preventDefault();
    action();
  };

  const start = async () => {
    startTheme();
    const problem = viewer.problemOfRun();
    if (problem) return viewer.say(problem);
    const { run } = viewer;
    document.title = run.title;
    byId("title").textContent = run.title;
    viewer.followAddress();
    viewer.say("");
    byId("layout").hidden = false;
    byId("kinds-help").append(...run.kinds.flatMap((name, k) => [el("dt", {}, name), el("dd", {}, run.meanings[k])]));
    byId("help-button").addEventListener("click", keys["?"]);
    for (const button of byId("views").children)
      button.addEventListener("click", () => viewer.set({ view: button.dataset.view }));
    document.addEventListener("keydown", onKey);
    viewer.onChange(showView);
    showView();
    if (!run.images.length) viewer.say("There is no image in this result.");
    viewer.buildTable();
    viewer.buildOverview();
    await viewer.buildPanels();
  };
  start().catch((error) => viewer.say(`The page could not show the result: ${error.message}`));
})();
