"use strict";
/* The list of an image's segments below the panels: errors first, grouped by kind; problems of its labels before them. */
(() => {
  const { el } = viewer;
  const LAST = ["in void", "found"];
  const MOST_ENTRIES = 400; // of one group; an image of thousands of segments would stall the page
  let scene = null;
  let image = null;

  const sideName = (side) =>
    side === "truth" ? "truth" : viewer.run.runs.length === 2 ? `prediction ${"AB"[Number(side.slice(3))]}` : "prediction";

  const entryOf = (chosen) => {
    const { run } = viewer.state;
    const said = viewer.describe(scene, chosen, run);
    const segment = viewer.segment(scene, chosen);
    const outcome = chosen[0] === "truth" ? scene.runs[run] && scene.runs[run].truths[chosen[1]] : segment;
    const numbers = [];
    if (outcome && outcome.iou) numbers.push(`IoU ${outcome.iou.toFixed(2)}`);
    if (segment.score !== null && segment.score !== undefined) numbers.push(`score ${segment.score.toFixed(2)}`);
    numbers.push(`${viewer.count(segment.area)} px`);
    if (outcome && outcome.partners && outcome.partners.length && viewer.run.kinds[outcome.kind] === "wrong class") {
      const other = chosen[0] === "truth" ? scene.runs[run].segments : scene.truth.segments;
      const name = viewer.run.classes[other[outcome.partners[0]].class].name;
      numbers.unshift(chosen[0] === "truth" ? `taken for ${name}` : `is ${name}`);
    }
    return el(
      "button.segment",
      {
        "data-segment": chosen.join(" "),
        title: said.text,
        click: () => viewer.select(chosen, { zoom: true }),
        pointerenter: () => viewer.preview(chosen),
        pointerleave: () => viewer.preview(null),
        focus: () => viewer.preview(chosen),
        blur: () => viewer.preview(null),
      },
      viewer.swatch(said.color),
      el("b", {}, said.name),
      el("span.id", {}, said.id),
      el("span.side", {}, sideName(chosen[0])),
      el("span.soft", {}, numbers.join(" · ")),
    );
  };

  /** Segments by kind; what was found stands once, on the truth's side. */
  const groups = () => {
    const { kinds } = viewer.run;
    const { run, cls, kind } = viewer.state;
    const found = new Map();
    const put = (name, chosen) => {
      if (!found.has(name)) found.set(name, []);
      found.get(name).push(chosen);
    };
    const collect = (side, segments) =>
      segments.forEach((segment, place) => {
        const own = scene.runs.length ? viewer.kindOf(scene, side === "truth" ? "truth" : "prediction", place, run) : null;
        if ((cls >= 0 && segment.class !== cls) || (kind >= 0 && own !== kind)) return;
        const name = own === null ? (segment.is_crowd ? "crowd, not counted" : "segments") : kinds[own];
        if (name !== "found" || side === "truth") put(name, [side, place]);
      });
    if (scene.truth) collect("truth", scene.truth.segments);
    if (scene.runs[run]) collect(`run${run}`, scene.runs[run].segments);
    const order = [...kinds.filter((name) => !LAST.includes(name)), ...LAST];
    const rank = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
    return [...found].sort((a, b) => rank(a[0]) - rank(b[0]));
  };

  const problemEntry = (problem) => {
    const { level, kind } = viewer.run.problems[problem.problem];
    const side = problem.side === "truth" ? "truth" : "run0";
    const chosen = problem.segments.length ? [side, problem.segments[0]] : null;
    const go = () => {
      if (chosen) viewer.select(chosen, { zoom: !problem.box });
      if (problem.box) viewer.zoomTo(problem.box);
    };
    return el(
      "button.segment.problem",
      {
        click: go,
        focus: () => viewer.preview(chosen),
        blur: () => viewer.preview(null),
        pointerenter: () => viewer.preview(chosen),
        pointerleave: () => viewer.preview(null),
      },
      el(`span.level.${level === "broken" ? "broken" : "suspicious"}`, {}, level),
      el("b", {}, kind),
      el("span.soft", {}, problem.text),
    );
  };

  const group = (title, entries, make) => {
    const more = entries.length - MOST_ENTRIES;
    return el(
      "section.group",
      {},
      el("h3", {}, title, el("span.count", {}, viewer.count(entries.length))),
      el(
        "div.entries",
        {},
        ...entries.slice(0, MOST_ENTRIES).map(make),
        more > 0 ? el("span.soft", {}, `and ${viewer.count(more)} more`) : null,
      ),
    );
  };

  const show = () => {
    const place = viewer.byId("segments");
    if (!scene) return place.replaceChildren();
    const problems = scene.problems.filter(({ problem }) => viewer.state.problem < 0 || problem === viewer.state.problem);
    const parts = problems.length ? [group("Problems of the labels", problems, problemEntry)] : [];
    parts.push(...groups().map(([name, entries]) => group(name, entries, entryOf)));
    if (!parts.length) parts.push(el("p.soft", {}, "No segment of this image is left by the filters."));
    place.replaceChildren(...parts);
  };

  /** Show the segments of an image that was read, or nothing. */
  viewer.showSegments = (ofScene, ofImage) => {
    if (ofImage !== image) viewer.byId("segments").scrollTop = 0;
    [scene, image] = [ofScene, ofImage];
    show();
  };

  /** Scroll the list, where it has a bar of its own; never the page, whose panels the user looks at. */
  const bringIntoSight = (entry) => {
    const list = viewer.byId("segments");
    if (list.scrollHeight <= list.clientHeight) return;
    const [seen, own] = [list.getBoundingClientRect(), entry.getBoundingClientRect()];
    if (own.top < seen.top) list.scrollTop -= seen.top - own.top + 8;
    else if (own.bottom > seen.bottom) list.scrollTop += own.bottom - seen.bottom + 8;
  };

  viewer.markSelected = (chosen) => {
    const name = chosen && chosen.join(" ");
    for (const entry of document.querySelectorAll(".segment[data-segment]")) {
      const isChosen = entry.dataset.segment === name;
      entry.toggleAttribute("aria-current", isChosen);
      if (isChosen) bringIntoSight(entry);
    }
  };

  viewer.onChange((changed) => {
    if (["run", "cls", "kind", "problem"].some((name) => changed.has(name))) show();
  });
})();
