// A machine's gateway to a tallyroot log: `send` numbers, keeps, batches, signs and produces readings.

export { InvalidInput, InvariantBroken, SpoolFull } from "./errors.js";
export { Gateway } from "./gateway.js";
