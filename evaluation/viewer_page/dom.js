"use strict";
/* The namespace, and how elements are made: data reaches the page as text only, never as markup. */
window.viewer = {};

/**
 * Make an element.
 * @param {string} tag such as "div" or "button.chip" (one class or several after dots)
 * @param {Object<string, *>} options attributes; functions become event listeners, `style` an object of CSS properties
 * @param {...(Node|string|number|null)} children
 */
viewer.el = (tag, options = {}, ...children) => {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  if (name === "button") element.type = "button";
  for (const [key, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else if (key === "style") for (const [property, set] of Object.entries(value)) element.style.setProperty(property, set);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

viewer.byId = (id) => document.getElementById(id);

viewer.rgb = (color) => `rgb(${color[0]} ${color[1]} ${color[2]})`;

viewer.swatch = (color, hatched = false) =>
  viewer.el(hatched ? "span.swatch.hatched" : "span.swatch", {
    style: { "background-color": viewer.rgb(color) },
    "aria-hidden": "true",
  });

/** A fraction of 1 in percent, or n/a. */
viewer.percent = (fraction, digits = 1) =>
  fraction === null || fraction === undefined ? "n/a" : (100 * fraction).toFixed(digits);

/** As percent, with its sign. */
viewer.signed = (fraction, digits = 1) => {
  if (fraction === null || fraction === undefined) return "n/a";
  const text = Math.abs(100 * fraction).toFixed(digits);
  if (Number(text) === 0) return text;
  return (fraction > 0 ? "+" : "−") + text;
};

viewer.count = (number) => number.toLocaleString("en");

/** 1 segment, 2 segments. */
viewer.plural = (number, noun) => `${viewer.count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Order of two values of a column: numbers by size, text as people sort it, what is missing last in either direction. */
viewer.compare = (() => {
  const collator = new Intl.Collator("en", { numeric: true });
  return (a, b, descending) => {
    const missing = (a === null || a === undefined) - (b === null || b === undefined);
    if (missing || a === null || a === undefined) return missing;
    const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
    return descending ? -order : order;
  };
})();

/** The header of a sortable column: a button that says in which direction it sorts. */
viewer.sortHeader = (tag, title, hint, isSorted, descending, onClick) => {
  const order = isSorted ? (descending ? "descending" : "ascending") : "none";
  const arrow = viewer.el("span.arrow", { "aria-hidden": "true" }, isSorted ? (descending ? "▾" : "▴") : "");
  return viewer.el(
    tag,
    { role: "columnheader", "aria-sort": order, title: hint },
    viewer.el("button", { click: onClick }, title, arrow),
  );
};
