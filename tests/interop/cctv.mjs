// Prints the C2SP age test kit (npm cctv-age) as JSON: {name: base64 of the vector file}.
// Only byte arrays are taken: a module may export other things one day.
import * as kit from "cctv-age";

const vectors = {};
for (const [name, bytes] of Object.entries(kit)) {
  if (bytes instanceof Uint8Array) vectors[name] = Buffer.from(bytes).toString("base64");
}
process.stdout.write(JSON.stringify(vectors));
