"use strict";
/* The list of images: their numbers under the filters, the filters themselves, the order, and who is next. */
(() => {
  let ownColumns = null; // names of the columns that the writer added
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  /** One image's counts in one run: of all classes, or of the class that is filtered. */
  viewer.numbersOf = (image, run, cls) => {
    const all = image.runs[run];
    if (cls < 0) return all;
    const own = all.classes[cls];
    if (!own) return { pq: null, tp: 0, fp: 0, fn: 0, truths: {}, predictions: {} };
    const weight = own.tp + (own.fp + own.fn) / 2;
    return { ...own, pq: weight ? own.iou / weight : null };
  };

  /** How many segments are of a kind: truths, or predictions where the kind has those only. */
  viewer.kindCount = (numbers, kind) => numbers.truths[kind] || numbers.predictions[kind] || 0;

  const isChanged = (image) => {
    const [a, b] = image.runs.map((run) => JSON.stringify([run.pq, run.tp, run.fp, run.fn, run.truths, run.predictions]));
    return a !== b;
  };

  /** @returns {{key: string, title: string, hint: string, value: function, show: function}[]} */
  viewer.imageColumns = () => {
    const { run, state } = viewer;
    const columns = [{ key: "id", title: "Image", hint: "Name of the image", value: (image) => image.id, show: String }];
    const add = (key, title, hint, value, show = (v) => (v === null || v === undefined ? "n/a" : String(v))) =>
      columns.push({ key, title, hint, value, show });
    const of = state.cls < 0 ? "" : ` of ${run.classes[state.cls].name}`;
    const two = run.runs.length === 2;
    run.runs.forEach((entry, k) => {
      const title = two ? `PQ ${"AB"[k]}` : "PQ";
      add(
        `pq${k}`,
        title,
        `PQ${of} in this image${two ? `, ${entry.name}` : ""}`,
        (i) => viewer.numbersOf(i, k, state.cls).pq,
        (v) => viewer.percent(v),
      );
    });
    if (two) {
      const difference = (image) => {
        const [a, b] = [0, 1].map((k) => viewer.numbersOf(image, k, state.cls).pq);
        return a === null || b === null ? null : b - a;
      };
      add("difference", "B−A", `PQ${of} of B less that of A`, difference, (v) => viewer.signed(v));
    }
    if (run.runs.length) {
      if (state.kind >= 0) {
        const name = run.kinds[state.kind];
        add("kind", name, `Segments${of} of the kind "${name}"`, (i) =>
          viewer.kindCount(viewer.numbersOf(i, state.run, state.cls), state.kind),
        );
      }
      const meanings = {
        tp: "found (true positives)",
        fp: "predicted, but not there (false positives)",
        fn: "not found (false negatives)",
      };
      for (const key of ["tp", "fp", "fn"]) {
        add(
          key,
          key.toUpperCase(),
          `Segments${of} ${meanings[key]}${two ? ` in ${"AB"[state.run]}` : ""}`,
          (i) => viewer.numbersOf(i, state.run, state.cls)[key],
        );
      }
    }
    if (run.problems.length)
      add("problems", "labels", "Problems of the labels", (image) => sum(image.problems.map((problem) => problem[1])));
    ownColumns = ownColumns || new Set(run.images.flatMap((image) => Object.keys(image.columns)));
    for (const name of ownColumns) add(`own:${name}`, name, name, (image) => image.columns[name]);
    return columns;
  };

  const isWanted = (image) => {
    const { state, run } = viewer;
    if (state.text && !image.id.toLowerCase().includes(state.text.toLowerCase())) return false;
    if (state.problem >= 0 && !image.problems.some(([problem]) => problem === state.problem)) return false;
    if (!run.runs.length) return true;
    if (state.cls >= 0 && !run.runs.some((_, k) => image.runs[k].classes[state.cls])) return false;
    const numbers = viewer.numbersOf(image, state.run, state.cls);
    if (state.kind >= 0 && !viewer.kindCount(numbers, state.kind)) return false;
    if (state.low !== "" && !(numbers.pq !== null && 100 * numbers.pq >= Number(state.low))) return false;
    if (state.high !== "" && !(numbers.pq !== null && 100 * numbers.pq <= Number(state.high))) return false;
    return !(state.changed && run.runs.length === 2 && !isChanged(image));
  };

  /** The images that the filters leave, in the order of the sorted column; images of equal value keep their order. */
  viewer.listImages = () => {
    const { run, state } = viewer;
    const columns = viewer.imageColumns();
    const column = columns.find(({ key }) => key === viewer.sortKey()) || columns[0];
    const rows = run.images.filter(isWanted).map((image) => [column.value(image), image]);
    rows.sort((a, b) => viewer.compare(a[0], b[0], state.descending));
    return rows.map(([, image]) => image);
  };

  /** Worst images first, unless the user sorted otherwise. */
  viewer.sortKey = () => {
    const { state, run } = viewer;
    if (state.sort) return state.sort;
    return run.runs.length ? `pq${state.run}` : "id";
  };

  const FILTERS = { text: "", cls: -1, kind: -1, low: "", high: "", changed: false, problem: -1 };
  viewer.noFilters = FILTERS;
  viewer.isFiltered = () => Object.entries(FILTERS).some(([key, value]) => viewer.state[key] !== value);

  /** The image that stands for the whole: that of median PQ; without a prediction the first one with a problem. */
  viewer.typicalImage = () => {
    const { images, runs } = viewer.run;
    if (!runs.length) return images.find((image) => image.problems.length) || images[0];
    const last = runs.length - 1; // of two runs the one that the report is about
    const scored = images.filter((image) => image.runs[last].pq !== null).sort((a, b) => a.runs[last].pq - b.runs[last].pq);
    return scored[Math.floor((scored.length - 1) / 2)] || images[0];
  };

  let byId = null;
  /** The image that is shown; undefined where there are none at all. */
  viewer.shownImage = () => {
    byId = byId || new Map(viewer.run.images.map((image) => [image.id, image]));
    return byId.get(viewer.state.image) || viewer.typicalImage();
  };
})();
