// Prints the C2SP age test kit (npm cctv-age) as JSON: {name: base64 of the vector file}.
// The default export of a namespace may hold non-vectors one day, so only byte arrays are taken.
import * as kit from "cctv-age";

const vectors = {};
for (const [name, bytes] of Object.entries(kit)) {
  if (bytes instanceof Uint8Array) vectors[name] = Buffer.from(bytes).toString("base64");
}
process.stdout.write(JSON.stringify(vectors));
