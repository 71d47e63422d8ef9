"use strict";
/* What each pixel means, and its colour on the screen. Panels are painted at the screen's resolution, straight from the maps. */
(() => {
  /** The verdicts of the difference, in the order of their codes; colours as in the images of evaluation/render.py. */
  const VERDICTS = [
    { name: "right", color: [206, 221, 210] },
    { name: "right class, wrong segment", color: [255, 190, 60] },
    { name: "wrong class", color: [214, 47, 57] },
    { name: "nothing predicted", color: [112, 79, 160] },
    { name: "not counted (void, crowd)", color: [56, 60, 66] },
  ];
  /** What became of the truth's segments from A to B. */
  const CHANGES = [
    { name: "not counted", color: [56, 60, 66] },
    { name: "found by both", color: [200, 205, 209] },
    { name: "the same error in both", color: [150, 156, 162] },
    { name: "found by B only", color: [38, 150, 84] },
    { name: "found by A only", color: [214, 47, 57], hatched: true },
    { name: "another kind of error", color: [255, 190, 60] },
    { name: "invented by A only", color: [160, 132, 202] },
    { name: "invented by B only", color: [112, 79, 160], hatched: true },
  ];
  viewer.VERDICTS = VERDICTS;
  viewer.CHANGES = CHANGES;
  const QUIET = new Set([VERDICTS[0], CHANGES[1], CHANGES[2]]); // the image may shine through them

  /** Per truth place from 1: the place from 1 of the prediction that found it, or 0. */
  const foundBy = (run) => {
    const found = viewer.run.kinds.indexOf("found");
    return Uint32Array.from([
      0,
      ...run.truths.map((outcome) => (outcome && outcome.kind === found ? outcome.partners[0] + 1 : 0)),
    ]);
  };

  const classesOf = (side) => Int32Array.from([-1, ...side.segments.map((segment) => segment.class)]);

  /** Per pixel the code of a verdict, as error_map of evaluation/render.py has it. */
  viewer.errorCodes = (scene, run) => {
    const side = scene.runs[run];
    if (side.errors) return side.errors;
    const { map: truth, segments } = scene.truth;
    const { map: prediction } = side;
    const trueClass = classesOf(scene.truth);
    const predictedClass = classesOf(side);
    const match = foundBy(side);
    const isCrowd = Uint8Array.from([0, ...segments.map((segment) => Number(segment.is_crowd))]);
    const codes = new Uint8Array(truth.length);
    for (let i = 0; i < codes.length; i++) {
      const t = truth[i];
      const p = prediction[i];
      if (t === 0 || (p === 0 && isCrowd[t])) codes[i] = 4;
      else if (p === 0) codes[i] = 3;
      else if (trueClass[t] !== predictedClass[p]) codes[i] = 2;
      else codes[i] = isCrowd[t] || match[t] === p ? 0 : 1;
    }
    side.errors = codes;
    return codes;
  };

  /** Per prediction place from 1, in A and in B: whether it is invented, and the other run has no such invention. */
  const inventedAlone = (scene) => {
    const kind = viewer.run.kinds.indexOf("invented");
    const [a, b] = scene.runs;
    const alone = [a, b].map((side) => Uint8Array.from([0, ...side.segments.map((segment) => Number(segment.kind === kind))]));
    const pairs = new Map();
    for (let i = 0; i < a.map.length; i++) {
      if (!alone[0][a.map[i]] || !alone[1][b.map[i]]) continue;
      const pair = a.map[i] * 65536 + b.map[i];
      pairs.set(pair, (pairs.get(pair) || 0) + 1);
    }
    for (const [pair, pixels] of pairs) {
      const [first, second] = [Math.floor(pair / 65536), pair % 65536];
      const [one, other] = [a.segments[first - 1], b.segments[second - 1]];
      if (one.class !== other.class || pixels / (one.area + other.area - pixels) <= 0.5) continue;
      alone[0][first] = alone[1][second] = 0;
    }
    return alone;
  };

  /** Of a truth segment: the code of what became of it. */
  viewer.changeOf = (scene, place) => {
    const found = viewer.run.kinds.indexOf("found");
    const [a, b] = scene.runs.map((run) => run.truths[place]);
    if (!a || !b) return 0;
    if (a.kind === b.kind) return a.kind === found ? 1 : 2;
    if (b.kind === found) return 3;
    return a.kind === found ? 4 : 5;
  };

  /** Per pixel the code of a change from A to B. */
  viewer.changeCodes = (scene) => {
    if (scene.changes) return scene.changes;
    const [a, b] = scene.runs;
    const ofTruth = Uint8Array.from([0, ...scene.truth.segments.map((_, place) => viewer.changeOf(scene, place))]);
    const [aloneInA, aloneInB] = inventedAlone(scene);
    const codes = new Uint8Array(scene.truth.map.length);
    for (let i = 0; i < codes.length; i++) {
      const code = ofTruth[scene.truth.map[i]];
      if (code === 3 || code === 4) codes[i] = code;
      else codes[i] = aloneInB[b.map[i]] ? 7 : aloneInA[a.map[i]] ? 6 : code;
    }
    scene.changes = codes;
    return codes;
  };

  /** The kind of a segment, as its place in run.kinds: of a truth in one of the runs; null for crowds and without a truth. */
  viewer.kindOf = (scene, side, place, run) => {
    const outcome = side === "truth" ? scene.runs[run] && scene.runs[run].truths[place] : scene.runs[run].segments[place];
    return outcome && outcome.kind !== undefined ? outcome.kind : null;
  };

  /** Per place from 1: whether the filters by class and kind leave a segment; null where no filter is set. */
  viewer.keptSegments = (scene, side, run) => {
    const { cls, kind } = viewer.state;
    if (cls < 0 && kind < 0) return null;
    const { segments } = side === "truth" ? scene.truth : scene.runs[run];
    const isKept = (segment, place) =>
      (cls < 0 || segment.class === cls) && (kind < 0 || viewer.kindOf(scene, side, place, run) === kind);
    return Uint8Array.from([0, ...segments.map((segment, place) => Number(isKept(segment, place)))]);
  };

  const pack = ([r, g, b], alpha) => ((Math.round(255 * alpha) << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const half = (color) => color.map((value) => value >> 1);
  /** Far from every class's colour, and the darker the less there is below. */
  const dim = (color, alpha) => {
    const gray = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2];
    return alpha === 1
      ? pack(Array(3).fill(Math.round(34 + 0.16 * gray)), 1)
      : pack([20, 22, 24], Math.min(0.9, 0.4 + 0.5 * alpha));
  };

  /** Colours of a map's places: plain, hatched (crowds), dimmed. */
  const mapColors = (side, alpha) => {
    const colors = [[0, 0, 0], ...side.segments.map((segment) => segment.color)];
    const alphas = colors.map((_, k) => (k === 0 && alpha < 1 ? 0.75 * alpha : alpha));
    const isCrowd = (k) => k > 0 && side.segments[k - 1].is_crowd;
    return {
      plain: Uint32Array.from(colors, (color, k) => pack(color, alphas[k])),
      hatched: Uint32Array.from(colors, (color, k) => pack(isCrowd(k) ? half(color) : color, alphas[k])),
      dimmed: Uint32Array.from(colors, (color, k) => dim(color, alphas[k])),
    };
  };

  /** Colours of verdicts or changes. Where all is well the image shines through; errors are stronger than the slider says. */
  const codeColors = (entries, alpha) => {
    const alphas = entries.map((entry) => (QUIET.has(entry) ? alpha * alpha : Math.min(1, alpha + 0.3)));
    return {
      plain: Uint32Array.from(entries, ({ color }, k) => pack(color, alphas[k])),
      hatched: Uint32Array.from(entries, ({ color, hatched }, k) => pack(hatched ? half(color) : color, alphas[k])),
      dimmed: Uint32Array.from(entries, ({ color }, k) => dim(color, alphas[k])),
    };
  };

  /**
   * What a panel paints: per pixel a code with its colours, the map whose segments are outlined, and which maps are filtered.
   * @param {string} name image, truth, a, b, difference or changes
   * @param {number} alpha of the colours over the image; 1 where there is no image
   */
  viewer.paintingOf = (scene, name, alpha) => {
    const { run } = viewer.state;
    if (name === "image") return null;
    const kept = (side, k) => [side === "truth" ? scene.truth.map : scene.runs[k].map, viewer.keptSegments(scene, side, k)];
    if (name === "truth")
      return {
        codes: scene.truth.map,
        edges: scene.truth.map,
        colors: mapColors(scene.truth, alpha),
        line: 0xffffffff,
        kept: [kept("truth", run)],
      };
    if (name === "a" || name === "b") {
      const k = name === "a" ? 0 : 1;
      const side = scene.runs[k];
      return {
        codes: side.map,
        edges: side.map,
        colors: mapColors(side, alpha),
        line: 0xffffffff,
        kept: [kept("prediction", k)],
      };
    }
    const common = { edges: scene.truth.map, line: pack([33, 37, 41], 1) };
    if (name === "difference") {
      const codes = viewer.errorCodes(scene, run);
      return { ...common, codes, colors: codeColors(VERDICTS, alpha), kept: [kept("truth", run), kept("prediction", run)] };
    }
    const filtered = [kept("truth", run), kept("prediction", 0), kept("prediction", 1)];
    return { ...common, codes: viewer.changeCodes(scene), colors: codeColors(CHANGES, alpha), kept: filtered };
  };

  /**
   * Which pixel of the image each pixel of the screen shows.
   * @returns {Int32Array} -1 outside the image
   */
  viewer.sample = (length, offset, scale, size) => {
    const places = new Int32Array(length);
    for (let i = 0; i < length; i++) {
      const place = Math.floor((i + 0.5 - offset) / scale);
      places[i] = place >= 0 && place < size ? place : -1;
    }
    return places;
  };

  /** Paint a panel. `out` is the screen (ABGR), `xs` and `ys` as viewer.sample gives them, `width` that of the image. */
  viewer.paint = (out, xs, ys, width, painting, outlines) => {
    const { codes, edges, colors, line, kept } = painting;
    const [first, second, third] = kept.filter(([, flags]) => flags);
    const columns = xs.length;
    for (let j = 0; j < ys.length; j++) {
      const start = j * columns;
      if (ys[j] < 0) {
        out.fill(0, start, start + columns);
        continue;
      }
      const row = ys[j] * width;
      const above = (j > 0 && ys[j - 1] >= 0 ? ys[j - 1] : ys[j]) * width;
      let left = -1;
      for (let i = 0; i < columns; i++) {
        const x = xs[i];
        if (x < 0) {
          out[start + i] = 0;
          left = -1;
          continue;
        }
        const k = row + x;
        const edge = edges[k];
        const isDim =
          first && !first[1][first[0][k]] && !(second && second[1][second[0][k]]) && !(third && third[1][third[0][k]]);
        if (isDim) out[start + i] = colors.dimmed[codes[k]];
        else if (outlines && ((left >= 0 && edge !== left) || edge !== edges[above + x])) out[start + i] = line;
        else out[start + i] = ((x + ys[j]) % 8 < 3 ? colors.hatched : colors.plain)[codes[k]];
        left = edge;
      }
    }
  };

  /**
   * Draw the outline of marked segments two pixels wide, light inside and dark outside.
   * @param {Uint8Array} marks per place from 1 of `map`
   */
  viewer.paintMarks = (out, xs, ys, width, map, marks, color, dashed) => {
    const columns = xs.length;
    const dark = 0xff000000;
    for (let j = 0; j < ys.length; j++) {
      if (ys[j] < 0) continue;
      const row = ys[j] * width;
      const above = j > 0 && ys[j - 1] >= 0 ? ys[j - 1] * width : row;
      let left = -1;
      for (let i = 0; i < columns; i++) {
        const x = xs[i];
        if (x < 0) continue;
        const mark = marks[map[row + x]];
        const over = marks[map[above + x]];
        const at = j * columns + i;
        const light = dashed && (i + j) % 10 < 4 ? dark : color;
        if (left >= 0 && mark !== left) {
          out[at] = mark ? light : dark;
          out[at - 1] = mark ? dark : light;
        }
        if (mark !== over) {
          out[at] = mark ? light : dark;
          out[at - columns] = mark ? dark : light;
        }
        left = mark;
      }
    }
  };
})();
