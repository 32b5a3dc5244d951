// Seals and opens with npm age-encryption.  Reads JSON jobs from stdin, prints JSON answers; binary as base64.
//   {"do": "open", "sealed", "identity" | "passphrase"}              -> {"plaintext"} or {"error"}
//   {"do": "seal", "plaintext", "recipient" | "passphrase", "workFactor"?} -> {"sealed"}
//   {"do": "recipient", "identity"}                                  -> {"recipient"}
import { readFileSync } from "node:fs";
import { Decrypter, Encrypter, identityToRecipient } from "age-encryption";

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = (data) => Buffer.from(data).toString("base64");

async function open(job) {
  const decrypter = new Decrypter();
  if (job.identity !== undefined) decrypter.addIdentity(job.identity);
  if (job.passphrase !== undefined) decrypter.addPassphrase(job.passphrase);
  return { plaintext: text(await decrypter.decrypt(bytes(job.sealed))) };
}

async function seal(job) {
  const encrypter = new Encrypter();
  if (job.recipient !== undefined) encrypter.addRecipient(job.recipient);
  if (job.passphrase !== undefined) {
    encrypter.setPassphrase(job.passphrase);
    encrypter.setScryptWorkFactor(job.workFactor);
  }
  return { sealed: text(await encrypter.encrypt(bytes(job.plaintext))) };
}

const verbs = {
  open,
  seal,
  recipient: async (job) => ({ recipient: await identityToRecipient(job.identity) }),
};
const answers = [];
for (const job of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    answers.push(await verbs[job.do](job));
  } catch (refusal) {
    answers.push({ error: String(refusal) });
  }
}
process.stdout.write(JSON.stringify(answers));
