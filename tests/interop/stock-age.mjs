// Stands in for stock age (1.3 or newer) where tests follow the documents: `age -d [-i KEYFILE] [INPUT]`, stdin to
// stdout, built on npm age-encryption. Where stock age asks a person for a passphrase, this reads AGE_PASSPHRASE.
import { readFileSync } from "node:fs";
import { Decrypter } from "age-encryption";

const words = process.argv.slice(2);
const decrypter = new Decrypter();
let input = 0;
let asked = true;
while (words.length) {
  const word = words.shift();
  if (word === "-d") continue;
  if (word === "-i") {
    asked = false;
    const lines = readFileSync(words.shift(), "utf8").split("\n");
    for (const line of lines) if (line && !line.startsWith("#")) decrypter.addIdentity(line.trim());
  } else if (word.startsWith("-")) {
    throw new Error(`this stand-in does not know ${word}`);
  } else input = word;
}
if (asked) decrypter.addPassphrase(process.env.AGE_PASSPHRASE);
try {
  process.stdout.write(await decrypter.decrypt(new Uint8Array(readFileSync(input))));
} catch (refusal) {
  process.stderr.write(`age: error: ${refusal.message}\n`);
  process.exitCode = 1;
}
