// Random identities, and the one of this tab.

/** 16 random bytes in hex; `crypto.randomUUID` is missing on pages served without TLS. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
}

const CLIENT_ID = 'tidings.client-id'

export function tabClientId(): string {
  return sessionStorage.getItem(CLIENT_ID) ?? newTabClientId()
}

/** A duplicated tab inherits the storage of the first one and has to find its own id. */
export function newTabClientId(): string {
  const id = `web-${randomId()}`
  sessionStorage.setItem(CLIENT_ID, id)
  return id
}
