// A gate in front of the broker that closes for chosen paths, as networks do: what goes through such
// a path is cut, and nothing new gets through until it opens. It counts what it carries.

import { createServer, request } from 'node:http'
import { connect } from 'node:net'

/** Listens on a free port of this machine, and passes on to `target`. */
export async function openGate(target) {
  const { hostname, port } = new URL(target)
  const closed = new Set()
  const open = new Set()
  const carried = new Map()
  const count = (path, bytes) => carried.set(path, (carried.get(path) ?? 0) + bytes)
  const isClosed = (path) => [...closed].some((prefix) => path.startsWith(prefix))
  const track = (path, ...sockets) => {
    const passage = { path, sockets }
    open.add(passage)
    for (const socket of sockets) {
      socket.on('error', () => undefined)
      socket.on('close', () => {
        open.delete(passage)
        for (const other of sockets) other.destroy()
      })
    }
  }

  const server = createServer((incoming, answer) => {
    if (isClosed(incoming.url)) return incoming.socket.destroy()
    const { method, url, headers } = incoming
    const outgoing = request({ hostname, port, method, path: url, headers, agent: false }, (response) => {
      answer.writeHead(response.statusCode, response.headers)
      response.pipe(answer)
    })
    outgoing.on('error', () => answer.destroy())
    outgoing.on('socket', (socket) => track(url, socket, incoming.socket))
    incoming.pipe(outgoing)
  })
  // Connections are not kept, so that each belongs to one path.
  server.keepAliveTimeout = 1
  server.on('upgrade', (incoming, socket, head) => {
    if (isClosed(incoming.url)) return socket.destroy()
    const broker = connect(port, hostname, () => {
      const lines = [`${incoming.method} ${incoming.url} HTTP/1.1`]
      for (let i = 0; i < incoming.rawHeaders.length; i += 2) lines.push(`${incoming.rawHeaders[i]}: ${incoming.rawHeaders[i + 1]}`)
      broker.write(`${lines.join('\r\n')}\r\n\r\n`)
      broker.write(head)
      const path = incoming.url.split('?')[0]
      for (const side of [broker, socket]) side.on('data', (chunk) => count(path, chunk.length))
      broker.pipe(socket).pipe(broker)
    })
    track(incoming.url, socket, broker)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))

  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    /** Cuts what goes through these paths, and lets nothing new through. */
    close(...paths) {
      for (const path of paths) closed.add(path)
      for (const { path, sockets } of [...open]) if (isClosed(path)) for (const socket of sockets) socket.destroy()
    },
    /** Bytes that went through the WebSockets of a path, both ways, since this was asked last. */
    carried(path) {
      const bytes = carried.get(path) ?? 0
      carried.delete(path)
      return bytes
    },
    reopen(...paths) {
      for (const path of paths) closed.delete(path)
    },
    end: () => server.close(),
  }
}
