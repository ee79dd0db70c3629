// What the page asks of the broker, with the token of who signed in.

import { w } from './words'

export class ApiError extends Error {
  constructor(
    /** 0: there was no answer. */
    readonly status: number,
    text: string,
  ) {
    super(text)
  }
}

export type Json = Record<string, unknown>

export class Api {
  constructor(
    private readonly base: string,
    private readonly token: string | null,
    /** The token does not count any more, or the role is gone. */
    private readonly refused: (status: number) => void,
  ) {}

  private async send(method: string, path: string, body?: Json, signal?: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = {}
    if (this.token !== null) headers['Authorization'] = `Bearer ${this.token}`
    if (body) headers['Content-Type'] = 'application/json'
    let response: Response
    try {
      response = await fetch(`${this.base}${path}`, {
        ...{ method, headers, credentials: 'omit' as const },
        ...(body ? { body: JSON.stringify(body) } : {}),
        ...(signal ? { signal } : {}),
      })
    } catch (error) {
      if (signal?.aborted) throw error
      throw new ApiError(0, w('unreachable'))
    }
    if (response.ok) return response
    if (response.status === 401 || response.status === 403) this.refused(response.status)
    const answer = (await response.json().catch(() => ({}))) as { error?: { text?: unknown } }
    throw new ApiError(response.status, typeof answer.error?.text === 'string' ? answer.error.text : `HTTP ${response.status}`)
  }

  async get<T>(path: string): Promise<T> {
    return (await this.send('GET', path)).json() as Promise<T>
  }

  async remove(path: string): Promise<void> {
    await this.send('DELETE', path)
  }

  async post(path: string, body: Json): Promise<void> {
    await this.send('POST', path, body)
  }

  /** The data of Server-Sent Events, until the signal. */
  async stream(path: string, signal: AbortSignal, told: (data: Json) => void): Promise<void> {
    const response = await this.send('GET', path, undefined, signal)
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    while (reader) {
      const { done, value } = await reader.read()
      if (done) return
      const lines = (text + value).split('\n')
      text = lines.pop() ?? ''
      for (const line of lines) if (line.startsWith('data: ')) told(JSON.parse(line.slice(6)) as Json)
    }
  }
}

export interface Point {
  ts: number
  connections: number
  received: number
  sent: number
  kept: number
  dropped: number
  bytes_in: number
  bytes_out: number
  lagging: number
  behind: number
  commits: number
  batch: number | null
  ack_p50: number | null
  ack_p99: number | null
  delivery_p50: number | null
  delivery_p99: number | null
  sync_p50: number | null
  sync_p99: number | null
}

type Figure = number | Record<string, number>

export interface Overview {
  version: string
  identity: string
  now: number
  readiness: string
  shards: number
  figures: Record<string, Figure>
  distributions: Record<string, Record<string, { count: number; p50: number | null; p99: number | null }>>
}

export interface Session {
  client_id: string
  user: string
  connected: boolean
  protocol?: string
  door?: string
  address?: string | null
  since?: number
  closed_at?: number
  behind: number
  lagging?: boolean
  idle_ms?: number
  output_bytes?: number
  subscriptions: number
  filters: string[]
}

/** One number, the sum of several. */
export function sum(figure: Figure | undefined): number {
  if (figure === undefined) return 0
  return typeof figure === 'number' ? figure : Object.values(figure).reduce((all, one) => all + one, 0)
}
