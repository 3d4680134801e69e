// A buyer with nothing but the protocol's own packages from npm: it asks, is told 402, signs, and has a session.
// Usage: node x402_js.cjs '{"url", "key", "network", "asset", "wish"}'
"use strict";
const { wrapFetchWithPayment, x402Client, decodePaymentResponseHeader } = require("@x402/fetch");
const { ExactEvmScheme } = require("@x402/evm");
const { privateKeyToAccount } = require("viem/accounts");

async function main() {
  const task = JSON.parse(process.argv[2]);
  const client = new x402Client().register(task.network, new ExactEvmScheme(privateKeyToAccount(task.key)));
  client.setSpendControls({
    maxAmountPerPayment: false,
    allowedAssets: [{ network: task.network, asset: task.asset }],
  });
  const buy = wrapFetchWithPayment(fetch, client);
  const body = JSON.stringify(task.wish);
  const answer = await buy(task.url, { method: "POST", body, headers: { "content-type": "application/json" } });
  const settled = decodePaymentResponseHeader(answer.headers.get("PAYMENT-RESPONSE"));
  process.stdout.write(JSON.stringify({ status: answer.status, receipt: await answer.json(), settled }));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
