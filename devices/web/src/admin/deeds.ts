// What one can do to others from every section.

/** Whom something is about. */
export interface Subject {
  client_id?: string | undefined
  user?: string | undefined
  address?: string | undefined
}

export interface Deeds {
  /** Does something, and says that it is done or why not. */
  attempt(what: string, how: () => Promise<void>): Promise<boolean>
  /** Asks whether and why, ends the connection, and says whether it did. */
  disconnect(clientId: string): Promise<boolean>
  ban(subject: Subject): void
  trace(subject: Subject): void
}
