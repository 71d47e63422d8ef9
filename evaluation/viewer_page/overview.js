"use strict";
/* The start page: the score, what costs most, the kinds of errors, then classes, problems of the labels and further tables. */
(() => {
  const { el } = viewer;
  const GROUPS = ["All", "Things", "Stuff"];
  let classSort = null;
  let classSearch = "";

  const letter = (k) => (viewer.run.runs.length === 2 ? "AB"[k] : "");

  const scoreCard = () => {
    const { runs, difference, problems } = viewer.run;
    const big = runs.map((run, k) =>
      el(
        "div.big",
        {},
        el("span.label", {}, runs.length === 2 ? `${letter(k)}  ${run.name}` : problems.length ? run.name : "Panoptic quality"),
        el("strong", {}, viewer.percent(run.scores.All.pq)),
        el("span.soft", {}, runs.length === 2 ? "" : `PQ of ${run.scores.All.n} ${run.scores.All.n === 1 ? "class" : "classes"}`),
      ),
    );
    const head = ["", "PQ", "SQ", "RQ", "N"].map((title) =>
      el("th", { scope: "col", title: title === "N" ? "Number of classes" : null }, title),
    );
    const rows = GROUPS.flatMap((name) =>
      runs.map((run, k) => {
        const score = run.scores[name];
        const cells = ["pq", "sq", "rq"].map((key) => el("td", {}, viewer.percent(score[key])));
        return el(
          k === 1 ? "tr.second" : "tr",
          {},
          el("th", { scope: "row" }, `${name} ${letter(k)}`),
          ...cells,
          el("td.soft", {}, String(score.n)),
        );
      }),
    );
    return el(
      "section.card.score",
      {},
      el("div.bigs", {}, ...big),
      difference ? el("p.difference", {}, difference.text) : null,
      el("table.plain", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)),
    );
  };

  const findingsCard = () => {
    const run = viewer.run.runs[viewer.state.run];
    const list = run.findings.length
      ? el("ol.findings", {}, ...run.findings.map((text) => el("li", {}, text)))
      : el("p", {}, "Nothing costs anything: all is found.");
    return el(
      "section.card",
      {},
      el("h2", {}, `What costs most${viewer.run.runs.length === 2 ? `, ${letter(viewer.state.run)}` : ""}`),
      list,
    );
  };

  const kindsCard = () => {
    const { kinds, runs } = viewer.run;
    const run = runs[viewer.state.run];
    const rows = kinds.map((name, k) => ({ name, k, ...run.kinds[k] })).filter(({ name }) => name !== "in void");
    rows.sort((a, b) => (a.name === "found") - (b.name === "found") || (b.gain || 0) - (a.gain || 0));
    const most = Math.max(0.001, ...rows.map(({ gain }) => gain || 0));
    const entries = rows.map(({ name, k, truths, predictions, pq, gain }) => {
      const filter = () => viewer.set({ ...viewer.noFilters, kind: viewer.state.kind === k ? -1 : k });
      const all = `${viewer.plural(truths, "truth")}, ${viewer.plural(predictions, "prediction")}`;
      const hint = name === "found" ? "PQ if every found segment had IoU 1" : `PQ if everything ${name} were right`;
      return el(
        "button.bar",
        {
          click: filter,
          "aria-pressed": String(viewer.state.kind === k),
          title: `${hint}. ${all}. Click: only images that have such segments`,
        },
        el("span.name", {}, name === "found" ? "outlines of found" : name),
        el("span.soft", {}, `${viewer.count(truths || predictions)}×`),
        el(
          "span.track",
          { "aria-hidden": "true" },
          el("span.fill", { style: { width: `${(100 * Math.max(gain || 0, 0)) / most}%` } }),
        ),
        el("span.gain", {}, viewer.signed(gain)),
        el("span.pq", {}, viewer.percent(pq)),
      );
    });
    return el(
      "section.card.kinds",
      {},
      el("h2", {}, "PQ if right", el("span.soft", {}, "what each kind of error costs")),
      ...entries,
    );
  };

  const factsCard = () =>
    el(
      "section.card",
      {},
      el("h2", {}, "Where this comes from"),
      el(
        "dl.facts",
        {},
        ...viewer.run.facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))),
      ),
    );

  const classColumns = () => {
    const { runs } = viewer.run;
    const columns = [["name", "Class", "Name of the class", (row) => row.name]];
    runs.forEach((_, k) =>
      columns.push([`pq${k}`, `PQ${letter(k) && ` ${letter(k)}`}`, "Panoptic quality", (row) => row.runs[k].pq]),
    );
    if (runs.length === 2)
      columns.push(["gain", "B−A", "PQ of B less that of A", (row) => (row.seen ? row.runs[1].pq - row.runs[0].pq : null)]);
    for (const [key, hint] of [
      ["sq", "Segmentation quality"],
      ["rq", "Recognition quality"],
    ])
      columns.push([key, key.toUpperCase(), hint, (row) => row.focus[key]]);
    for (const [key, hint] of [
      ["tp", "Found"],
      ["fp", "Predicted, but not there"],
      ["fn", "Not found"],
    ])
      columns.push([key, key.toUpperCase(), hint, (row) => row.focus[key]]);
    return columns.map(([key, title, hint, value]) => ({ key, title, hint, value }));
  };

  const classRows = () => {
    const { classes, runs } = viewer.run;
    return classes.map((entry, k) => {
      const isSeen = (score) => score.tp + score.fp + score.fn > 0;
      const scores = runs.map((run) =>
        isSeen(run.classes[k]) ? run.classes[k] : { ...run.classes[k], pq: null, sq: null, rq: null },
      );
      return { ...entry, k, runs: scores, focus: scores[viewer.state.run], seen: scores.every(isSeen) };
    });
  };

  const classTable = () => {
    const columns = classColumns();
    classSort = classSort || { key: `pq${viewer.state.run}`, descending: false };
    const sorted = columns.find(({ key }) => key === classSort.key) || columns[0];
    const rows = classRows().filter(({ name }) => name.toLowerCase().includes(classSearch.toLowerCase()));
    rows.sort((a, b) => viewer.compare(sorted.value(a), sorted.value(b), classSort.descending));
    const sortBy = (key) => {
      classSort = { key, descending: key === classSort.key ? !classSort.descending : false };
      showClasses();
      document.querySelector(`#classes [data-key="${key}"] button`).focus();
    };
    const head = columns.map(({ key, title, hint }) => {
      const cell = viewer.sortHeader("th", title, hint, key === sorted.key, classSort.descending, () => sortBy(key));
      cell.dataset.key = key;
      return cell;
    });
    const body = rows.map((row) => {
      const choose = () => viewer.set({ ...viewer.noFilters, cls: viewer.state.cls === row.k ? -1 : row.k });
      const cells = columns.slice(1).map(({ key, value }) => {
        const number = value(row);
        if (key === "gain") return el(`td${number ? (number > 0 ? ".better" : ".worse") : ""}`, {}, viewer.signed(number));
        if (!/^(pq|sq|rq)/.test(key)) return el("td", {}, viewer.count(number));
        const bar =
          key === `pq${viewer.state.run}`
            ? el("span.meter", { "aria-hidden": "true" }, el("span", { style: { width: `${100 * (number || 0)}%` } }))
            : null;
        return el("td", {}, bar, viewer.percent(number));
      });
      const name = el(
        "button.link",
        { click: choose, "aria-pressed": String(viewer.state.cls === row.k), title: "Only images that have this class" },
        viewer.swatch(row.color),
        row.name,
      );
      return el(
        row.seen ? "tr" : "tr.unseen",
        {},
        el("th", { scope: "row" }, name, el("span.tag", {}, row.is_thing ? "thing" : "stuff")),
        ...cells,
      );
    });
    return el("table.plain.classes", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
  };
  const showClasses = () => viewer.byId("classes").replaceChildren(classTable());

  const classesCard = () => {
    const search = el("input", {
      type: "search",
      placeholder: "Search classes",
      "aria-label": "Search classes",
      value: classSearch,
      input: (event) => {
        classSearch = event.target.value;
        showClasses();
      },
    });
    const note =
      viewer.run.runs.length === 2
        ? `SQ, RQ and counts are of ${letter(viewer.state.run)}`
        : `${viewer.run.classes.length} classes`;
    return el(
      "section.card",
      {},
      el("h2", {}, "Classes", el("span.soft", {}, note), search),
      el("div", { id: "classes" }, classTable()),
    );
  };

  const problemsCard = () => {
    const level = (problem) => (problem.level === "broken" ? 0 : 1);
    const entries = viewer.run.problems
      .map((problem, k) => ({ ...problem, k }))
      .sort((a, b) => level(a) - level(b) || b.count - a.count);
    return el(
      "section.card.problems",
      { id: "problems" },
      el("h2", {}, "Labels", el("span.soft", {}, "what their check found")),
      ...entries.map((problem) => {
        const images = viewer.run.images.filter((image) => image.problems.some(([k]) => k === problem.k)).length;
        const filter = () => viewer.set({ ...viewer.noFilters, problem: viewer.state.problem === problem.k ? -1 : problem.k });
        return el(
          "div.problem",
          {},
          el(`span.level.${problem.level === "broken" ? "broken" : "suspicious"}`, {}, problem.level),
          el(
            "div",
            {},
            el("b", {}, problem.kind),
            ` ${viewer.count(problem.count)}×`,
            el("p", {}, problem.text),
            el("p.soft", {}, problem.effect),
            images
              ? el(
                  "button.link",
                  { click: filter, "aria-pressed": String(viewer.state.problem === problem.k) },
                  `show ${viewer.plural(images, "image")}`,
                )
              : null,
          ),
        );
      }),
    );
  };

  const cellText = (value) =>
    value === null || value === undefined
      ? "n/a"
      : typeof value === "number" && !Number.isInteger(value)
        ? String(Math.round(100 * value) / 100)
        : String(value);
  const furtherTable = ({ title, columns, rows, note, emphasis }) => {
    const head = columns.map((column) => el("th", { scope: "col" }, column));
    const body = rows.map((row) =>
      el(
        emphasis && row[0] === emphasis ? "tr.emphasis" : "tr",
        {},
        ...row.map((value, k) => el(k ? "td" : "th", k ? {} : { scope: "row" }, cellText(value))),
      ),
    );
    return el(
      "section.card",
      {},
      el("h2", {}, title),
      note ? el("p.soft", {}, note) : null,
      el("div.wide", {}, el("table.plain", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body))),
    );
  };

  const summaryOfLabels = () => {
    const { problems, images, facts } = viewer.run;
    const bad = images.filter((image) => image.problems.length).length;
    const said = facts.find(([name]) => name === "Images");
    return el(
      "section.card.score",
      {},
      el(
        "div.bigs",
        {},
        el(
          "div.big",
          {},
          el("span.label", {}, "Images with problems"),
          el("strong", {}, viewer.count(bad)),
          el("span.soft", {}, said ? said[1] : `of ${viewer.count(images.length)}`),
        ),
      ),
      el(
        "p.soft",
        {},
        viewer.run.runs.length
          ? "What the prediction contradicts is among them; its scores stand below."
          : `No prediction was compared${problems.length ? ": this shows the labels alone" : ", and nothing was found wrong"}.`,
      ),
    );
  };

  const show = () => {
    const { runs, problems, tables, facts } = viewer.run;
    const isOfLabels = !runs.length || problems.length > 0;
    const hero = isOfLabels
      ? [summaryOfLabels(), ...(problems.length ? [problemsCard()] : [])]
      : [scoreCard(), findingsCard(), kindsCard()];
    viewer.byId("hero").replaceChildren(el(isOfLabels ? "div.cards.few" : "div.cards", {}, ...hero));
    const scored = isOfLabels && runs.length ? [el("div.cards", {}, scoreCard(), findingsCard(), kindsCard())] : [];
    const details = runs.length ? [...scored, classesCard()] : [];
    const origin = facts.length ? [factsCard()] : [];
    viewer.byId("details").replaceChildren(...details, ...tables.map(furtherTable), ...origin);
  };

  viewer.buildOverview = () => {
    show();
    viewer.onChange((changed) => {
      if (["run", "cls", "kind", "problem"].some((name) => changed.has(name))) {
        const focused = document.activeElement;
        const path =
          focused && focused.closest("#hero, #details") ? [focused.closest("#hero, #details").id, focused.textContent] : null;
        show();
        if (path)
          [...viewer.byId(path[0]).querySelectorAll("button")]
            .find((button) => button.textContent === path[1])
            ?.focus({ preventScroll: true });
      }
    });
  };
})();
