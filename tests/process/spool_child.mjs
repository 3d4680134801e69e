// Works on JavaScript spools, each cut right before another step of its work on the disk; prints what each had done.

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";

const [folder, nowMs] = [process.argv[2], Number(process.argv[3])];
const STEPS = [
  "openSync", "writeSync", "fsyncSync", "ftruncateSync", "closeSync", "renameSync", "unlinkSync", "writeFileSync",
];

let left = Infinity;
for (const name of STEPS) {
  const real = fs[name];
  fs[name] = (...given) => {
    if (left-- <= 0) throw new Error("killed"); // nothing after it runs either, in no `finally`
    return real(...given);
  };
}
syncBuiltinESMExports();
const { Spool } = await import("./node_modules/tallyroot-gateway/spool.js");

function work(path, done) {
  function put(spool, meter, register) {
    const seq = spool.nextSeq("m", meter);
    const reading = { machine: "m", meter, boot: spool.boot, seq, observed_at: nowMs, register };
    spool.append(reading);
    done.returned.push(reading);
  }

  for (let round = 0; round < 2; round++) {
    const spool = new Spool(path, "log-1", "site-1", { nowMs: nowMs + round, segmentBytes: 400 });
    for (let register = 0; register < 5; register++) {
      put(spool, "energy", 10 * round + register);
      put(spool, "import", 10 * round + register);
    }
    const [rows, place] = spool.read(spool.acked, 7, 1 << 20);
    spool.sync();
    done.acknowledged += rows.length;
    spool.forget(place, rows.length);
    spool.beginBoot("m", "energy", nowMs + round);
    put(spool, "energy", 0);
    spool.close();
  }
}

for (let step = 0, isKilled = true; isKilled; step++) {
  const done = { step, returned: [], acknowledged: 0 };
  const path = join(folder, String(step));
  fs.mkdirSync(path);
  left = step;
  try {
    work(path, done);
    isKilled = false;
  } catch {
    // As killed.
  }
  left = Infinity;
  console.log(JSON.stringify(done));
}
