// Signing in: a name, and where the broker asks for one, a password, for a token of this tab.

import type { Credentials } from '../transport/transport'

export type LoginFailure = 'password_hint' | 'wrong_password' | 'login_later' | 'unreachable'

export class LoginError extends Error {
  constructor(
    readonly failure: LoginFailure,
    why = '',
  ) {
    super(why)
  }
}

const KEY = 'tidings.session'

/** @throws {LoginError} */
export async function login(base: string, user: string, password: string): Promise<Credentials> {
  let response: Response
  try {
    response = await fetch(`${base}/v1/login`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      // The cookie of another tab, perhaps of another person, is of no interest, nor is one wanted.
      credentials: 'omit',
      body: JSON.stringify(password === '' ? { user } : { user, password }),
    })
  } catch (error) {
    throw new LoginError('unreachable', error instanceof Error ? error.message : '')
  }
  if (response.ok) {
    const json = (await response.json().catch(() => ({}))) as Record<string, unknown>
    return { user, token: typeof json['token'] === 'string' ? json['token'] : null }
  }
  // Something in front of the broker passes the WebSocket alone: then the name has to do.
  if (response.status === 404 || response.status === 405) return { user, token: null }
  if (response.status === 429) throw new LoginError('login_later')
  if (response.status === 401 || response.status === 403 || response.status === 400) {
    throw new LoginError(password === '' ? 'password_hint' : 'wrong_password')
  }
  throw new LoginError('unreachable', `HTTP ${response.status}`)
}

/** Gives the token back, so that nobody else finds it of use. */
export function logout(base: string, { token }: Credentials): void {
  if (token === null) return
  void fetch(`${base}/v1/logout`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}` },
    credentials: 'omit',
    keepalive: true,
  }).catch(() => undefined)
}

/** A reloaded tab is signed in as before. */
export function remembered(): Credentials | null {
  try {
    const saved = JSON.parse(sessionStorage.getItem(KEY) ?? 'null') as Partial<Credentials> | null
    return saved && typeof saved.user === 'string' ? { user: saved.user, token: saved.token ?? null } : null
  } catch {
    return null
  }
}

export function remember(credentials: Credentials | null): void {
  if (credentials) sessionStorage.setItem(KEY, JSON.stringify(credentials))
  else sessionStorage.removeItem(KEY)
}
