// The two families of errors.

/** The caller's fault, or the world's (disk, Kafka). The message is one line that says what to do. */
export class InvalidInput extends Error {
  name = "InvalidInput";
}

/** The spool has no room: the reading was not taken and has no number. */
export class SpoolFull extends InvalidInput {
  name = "SpoolFull";
}

/** Ours: something that must never happen has happened, and this gateway sends nothing more. */
export class InvariantBroken extends Error {
  name = "InvariantBroken";
}
