"use strict";
/* Data files are scripts, because a page opened from disk may read no other file: each is a call of a function below. */
(() => {
  const FORMAT = 1;
  const MOST_KEPT = 6;
  const arrived = new Map();
  const scenes = new Map(); // file -> promise of a scene, the most recently used last

  /** Called by data/run.js. */
  viewer.loadRun = (run) => {
    viewer.run = run;
  };

  /** Called by data/NUMBER.js. */
  viewer.loadImage = (file, content) => {
    arrived.set(file, content);
  };

  /** What is wrong with data/run.js, or null. */
  viewer.problemOfRun = () => {
    const run = viewer.run;
    if (!run) return "data/run.js is missing or does not read. Copy the whole folder, or write it again.";
    if (run.format !== FORMAT)
      return `The data have format ${run.format}, but this page reads format ${FORMAT}. Write the folder again with one version.`;
    return null;
  };

  const readScript = (file) =>
    new Promise((resolve, reject) => {
      const script = viewer.el("script", { src: `data/${file}.js` });
      const lost = () => new Error(`data/${file}.js is missing or does not read. Copy the whole folder, or write it again.`);
      script.onload = () => {
        const content = arrived.get(file);
        arrived.delete(file);
        script.remove();
        if (content) resolve(content);
        else reject(lost());
      };
      script.onerror = () => {
        script.remove();
        reject(lost());
      };
      document.head.append(script);
    });

  /**
   * One image's maps. Few are kept: what was looked at longest ago is dropped.
   * @returns {Promise<{height: number, width: number, truth: ?Side, runs: Side[], problems: Object[]}>}
   *   a Side is {map: pixels, segments: [{class, id, color, area, box, is_crowd, score, kind, iou, partners}], truths}
   */
  viewer.readScene = (file) => {
    const known = scenes.get(file);
    const scene = known || readScript(file).then(viewer.decodeScene);
    scenes.delete(file);
    scenes.set(file, scene);
    if (!known) scene.catch(() => scenes.delete(file));
    while (scenes.size > MOST_KEPT) scenes.delete(scenes.keys().next().value);
    return scene;
  };
})();
