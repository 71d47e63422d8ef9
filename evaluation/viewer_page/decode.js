"use strict";
/* From the text of a data file to a map: the place of each pixel's segment from 1, 0 is void. */

/**
 * Decode a map: base64, deflate, and rows that are differences from the row above.
 * @param {{bits: number, data: string}} map
 * @returns {Promise<Uint8Array|Uint16Array>} row by row, height * width values
 */
viewer.decodeMap = async (map, [height, width]) => {
  if (typeof DecompressionStream === "undefined") {
    throw new Error(
      "This browser is too old: it has no DecompressionStream. Chrome 80, Edge 80, Firefox 113 and Safari 16.4 have it.",
    );
  }
  if (map.bits !== 8 && map.bits !== 16) throw new Error(`The map has ${map.bits} bits a pixel, but this page reads 8 and 16.`);
  const text = atob(map.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const needed = (height * width * map.bits) / 8;
  if (buffer.byteLength !== needed)
    throw new Error(`The map holds ${buffer.byteLength} bytes, but ${height}x${width} pixels need ${needed}.`);
  const pixels = map.bits === 8 ? new Uint8Array(buffer) : new Uint16Array(buffer); // both wrap around as the writer did
  for (let i = width; i < pixels.length; i++) pixels[i] += pixels[i - width];
  return pixels;
};

/** Both sides of one image's file, decoded; see readScene. */
viewer.decodeScene = async (content) => {
  const [height, width] = content.size;
  const side = async (entry) => entry && { ...entry, map: await viewer.decodeMap(entry.map, content.size) };
  const [truth, ...runs] = await Promise.all([side(content.truth), ...content.runs.map(side)]);
  return { height, width, truth, runs, problems: content.problems };
};
