/** What `produce` gets: a record for any Kafka client, to this very partition. */
export interface KafkaRecord {
  topic: string;
  partition: number;
  key: Buffer;
  value: Buffer;
  headers: { [name: string]: Buffer };
}

export interface GatewayOptions {
  /** The log's id, topic and number of partitions. */
  logId: string;
  topic?: string;
  partitions?: number;
  /** The key of all records, as the machines' registrations say. */
  route: string;
  /** A folder of this gateway's own. */
  spool: string;
  /** Hands a record to Kafka; resolves once all replicas have it (acks=all), rejects if not: then it is called again. */
  produce: (record: KafkaRecord) => Promise<unknown>;
  /** With both, every record is signed. The key is the 32 bytes of Ed25519. */
  keyId?: string;
  privateKey?: Uint8Array;
  /** A batch leaves with this many rows (at most 10,000; 1,000 by default), or after this time (200 ms). */
  batchRows?: number;
  batchMs?: number;
  /** The lowest boot to use, where an operator registered one. */
  boot?: number;
  /** How large the spool may become (256 MiB by default). */
  spoolBytes?: number;
  /** "batch": a loss of power may lose the last readings, which had not left yet; "reading": none that was sent. */
  sync?: "batch" | "reading";
  /** The clock, epoch ms. */
  nowMs?: () => number;
  /** Where damage in the spool is reported. */
  warn?: (message: string) => void;
}

/** One value: register, quantity or level, an integer in the meter's unit. Times are epoch ms. */
export interface ReadingFields {
  machine: string;
  meter: string;
  register?: number;
  quantity?: number;
  level?: number;
  /** Now, if absent. */
  observed_at?: number;
  session?: string;
  session_started_at?: number;
  /** This row starts the session, and owes its price per session; it is priced at its own moment. */
  session_start?: boolean;
  /** This row ends the session: if it was paid for before, it closes. */
  session_end?: boolean;
  reconstructed?: boolean;
  /** What the meter signed of its register: an OCMF record, at most 8,192 bytes. */
  evidence?: string;
  /** The meter's register began again, so that it may be below the last one: a new boot begins. */
  reset?: boolean;
  /** The meter's register rolls over at the modulus of its registration, so that it may be below the last one. */
  rolls_over?: boolean;
}

export interface Reading extends Omit<ReadingFields, "reset" | "rolls_over"> {
  boot: number;
  seq: number;
  observed_at: number;
}

/** Pieces of an order that arrived; 0: none came. */
export interface ReceiptFields {
  machine: string;
  item: string;
  number: number;
  quantity: number;
  /** Epoch ms; now, if absent. */
  observed_at?: number;
}

export interface GatewayStatus {
  boot: number;
  /** How many readings and receipts Kafka has not acknowledged yet. */
  waiting: number;
  /** Why readings wait, as far as is known. */
  problem: string | null;
  /** For the machines' registrations, 64 hex digits; null if nothing is signed. */
  publicKey: string | null;
}

/** One route's gateway. What `send` returned is on disk and reaches Kafka as soon as it can, in order, after any crash. */
export class Gateway {
  /** Throws InvalidInput for options that can't be right, and where another gateway has the spool's folder. */
  constructor(options: GatewayOptions);
  /**
   * Takes one reading and returns it with its boot and number. Throws InvalidInput for a reading that the log would
   * refuse, or whose register fell without `reset` or `rolls_over`, and SpoolFull where there is no room: then it was not taken.
   */
  send(fields: ReadingFields): Reading;
  /**
   * Takes it that goods of an order arrived; it is on disk for good once this returns, and reaches Kafka signed. Of an
   * order the first receipt counts; the same again changes nothing. Throws InvalidInput for what the log would refuse and
   * for a gateway without a key, SpoolFull where too many wait: then it was not taken.
   */
  receive(fields: ReceiptFields): void;
  /** Resolves once Kafka has all that was sent so far. Rejects with InvalidInput after `ms` (30,000); the spool keeps all. */
  flush(ms?: number): Promise<void>;
  status(): GatewayStatus;
  /** Sends what it can within `ms` (5,000) and ends; resolves to how many readings wait in the spool for another start. */
  close(ms?: number): Promise<number>;
}

/** The caller's fault, or the world's (disk, Kafka). The message is one line that says what to do. */
export class InvalidInput extends Error {}

/** The spool has no room: the reading was not taken and has no number. */
export class SpoolFull extends InvalidInput {}

/** Ours: something that must never happen has happened, and this gateway sends nothing more. */
export class InvariantBroken extends Error {}
