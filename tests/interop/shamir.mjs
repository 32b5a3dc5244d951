// Splits and combines with npm shamir-secret-sharing.  JSON jobs on stdin, JSON answers on stdout; binary as hex.
//   {"do": "split", "secret", "count", "threshold"} -> {"shares": [value ‖ index, …]}
//   {"do": "combine", "shares"}                     -> {"secret"}
import { readFileSync } from "node:fs";
import { combine, split } from "shamir-secret-sharing";

const bytes = (text) => new Uint8Array(Buffer.from(text, "hex"));
const text = (data) => Buffer.from(data).toString("hex");

const verbs = {
  split: async (job) => ({ shares: (await split(bytes(job.secret), job.count, job.threshold)).map(text) }),
  combine: async (job) => ({ secret: text(await combine(job.shares.map(bytes))) }),
};
const answers = [];
for (const job of JSON.parse(readFileSync(0, "utf8"))) answers.push(await verbs[job.do](job));
process.stdout.write(JSON.stringify(answers));
