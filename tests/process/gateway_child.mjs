// Drives the JavaScript gateway: what it hands to Kafka goes to standard output, a JSON line for each record.

import { Gateway, InvalidInput, partitionOf, publicKey } from "../../streams/gateway/gateway.mjs";

const { options, readings, refusals = 0, dies = false, bad = [], keys = [] } = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const base64 = (bytes) => Buffer.from(bytes).toString("base64");

let refused = 0;
async function produce({ topic, partition, key, value, headers }) {
  if (refused++ < refusals) throw new Error("Kafka is away");
  if (dies) await new Promise(() => {});
  say({
    topic,
    partition,
    key: base64(key),
    value: base64(value),
    headers: Object.entries(headers).map(([name, bytes]) => [name, base64(bytes)]),
  });
}

const privateKey = options.privateKey && Buffer.from(options.privateKey, "hex");
const gateway = new Gateway({ ...options, privateKey, produce });
const faults = [];
for (const reading of bad) {
  try {
    gateway.send(reading);
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error;
    faults.push(error.message);
  }
}
const sent = readings.map((reading) => gateway.send(reading));
if (dies) {
  say(sent);
  process.stdout.end(() => process.kill(process.pid, "SIGKILL"));
} else {
  await gateway.flush(10_000);
  say({
    sent,
    faults,
    boot: gateway.boot,
    waiting: await gateway.close(),
    publicKey: privateKey && publicKey(privateKey),
    partitions: keys.map((key) => partitionOf(key, 64)),
  });
}
