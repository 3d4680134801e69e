// Drives the JavaScript gateway, installed beside this file: what it hands to Kafka goes to standard output, a line each.

import { Gateway, InvalidInput } from "tallyroot-gateway";

const { options, readings = [], receipts = [], refusals = 0, dies = false, bad = [] } = JSON.parse(process.argv[2]);
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

function fault(make) {
  try {
    make();
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error;
    return error.message;
  }
  return null;
}

const privateKey = options.privateKey && Buffer.from(options.privateKey, "hex");
let gateway;
const badOptions = fault(() => (gateway = new Gateway({ ...options, privateKey, produce })));
if (badOptions !== null) {
  say({ fault: badOptions });
} else {
  const sent = readings.map((reading) => {
    let taken;
    const why = fault(() => (taken = gateway.send(reading)));
    return why ?? taken;
  });
  const received = receipts.map((receipt) => fault(() => gateway.receive(receipt)));
  const faults = bad.map((reading) => fault(() => gateway.send(reading)));
  if (dies) {
    say(receipts.length ? received : sent);
    process.stdout.end(() => process.kill(process.pid, "SIGKILL"));
  } else {
    await gateway.flush(10_000);
    say({ sent, received, faults, ...gateway.status(), left: await gateway.close() });
  }
}
