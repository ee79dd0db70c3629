// permessage-deflate with the package `ws`, which offers whatever it is told to, and refuses an answer that
// does not fit to its offer: what is agreed on, and that every message comes back as it went.
//
//   node ws_deflate.mjs ws://127.0.0.1:8083/

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import packets from 'mqtt-packet'
import WebSocket from 'ws'

const [url] = process.argv.slice(2)
const V5 = { protocolVersion: 5 }
const ALONE = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover'
const words = 'the meeting is at nine tomorrow , bring coffee and what was said about it until then'.split(' ')
/** Words with numbers between them: less than `websocket.max_expansion` times what it becomes. */
const text = (length) => Buffer.from(Array.from({ length: length / 3 + 1 }, (_, n) => (n % 5 ? words[(n * n * 7919) % 31 % words.length] : n)).join(' ').slice(0, length))

/** MQTT over a WebSocket of `ws`, which publishes and gets its own. */
class Client {
  constructor(deflate) {
    this.socket = new WebSocket(`${url}mqtt`, 'mqtt', { perMessageDeflate: deflate, skipUTF8Validation: true })
    this.parser = packets.parser(V5)
    this.arrived = []
    this.parser.on('packet', (packet) => {
      this.arrived.push(packet)
      this.wake?.()
    })
    this.socket.on('message', (data) => this.parser.parse(data))
    this.lost = once(this.socket, 'close').then(([code]) => Promise.reject(new Error(`it was closed: ${code}`)))
    this.lost.catch(() => undefined)
  }

  async next(cmd) {
    for (;;) {
      const packet = this.arrived.shift()
      if (packet?.cmd === cmd) return packet
      if (packet === undefined) await Promise.race([this.lost, new Promise((resolve) => (this.wake = resolve))])
    }
  }

  /** A packet in as many frames, each of its own or all of one message. */
  send(packet, frames = 1, isOneMessage = true) {
    const bytes = packets.generate(packet, V5)
    for (let n = 0; n < frames; n += 1) {
      const part = bytes.subarray((n * bytes.length) / frames, ((n + 1) * bytes.length) / frames)
      this.socket.send(part, { binary: true, fin: !isOneMessage || n === frames - 1 })
    }
  }

  /** Says something, and gets the same bytes. */
  async comesBack(topic, messageId, payload, frames, isOneMessage) {
    this.send({ cmd: 'publish', topic, payload, qos: 1, messageId, dup: false, retain: false }, frames, isOneMessage)
    const message = await this.next('publish')
    assert.ok(payload.equals(message.payload), `${topic}: ${payload.length} bytes`)
    this.send({ cmd: 'puback', messageId: message.messageId, reasonCode: 0 })
  }

  async join(id) {
    await Promise.race([this.lost, once(this.socket, 'open')])
    this.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 5, clean: true, clientId: id, username: id, keepalive: 0 })
    assert.equal((await this.next('connack')).reasonCode, 0)
    this.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: id, qos: 1, nl: false, rap: false, rh: 0 }] })
    await this.next('suback')
  }
}

/** Whether what comes from the broker shrinks: its window has to hold `websocket.compress_from_bytes`. */
const offers = [
  { says: 'nothing', deflate: false, agreed: '', shrinks: false },
  { says: 'what browsers say', deflate: { threshold: 0 }, agreed: ALONE, shrinks: true },
  { says: 'no context takeover', deflate: { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true }, agreed: ALONE, shrinks: true },
  { says: 'context takeover of the broker, if it likes', deflate: { threshold: 0, serverNoContextTakeover: false }, agreed: ALONE, shrinks: true },
  { says: 'a small window of its own', deflate: { threshold: 0, clientMaxWindowBits: 9 }, agreed: ALONE, shrinks: true },
  ...[8, 9, 10, 12, 14].map((bits) => ({
    says: `a window of 2^${bits} for the broker`,
    deflate: { threshold: 0, serverMaxWindowBits: bits },
    agreed: `${ALONE}; server_max_window_bits=${bits}`,
    shrinks: bits >= 10,
  })),
  { says: 'the largest window', deflate: { threshold: 0, serverMaxWindowBits: 15, clientMaxWindowBits: 15 }, agreed: ALONE, shrinks: true },
  { says: 'the strongest compression', deflate: { threshold: 0, zlibDeflateOptions: { level: 9, memLevel: 9 } }, agreed: ALONE, shrinks: true },
]

for (const [place, { says, deflate, agreed, shrinks }] of offers.entries()) {
  const client = new Client(deflate)
  const id = `ws-${place}`
  await client.join(id)
  assert.equal(client.socket.extensions, agreed && 'permessage-deflate', says)
  const params = client.socket._extensions['permessage-deflate']?.params ?? {}
  for (const [name, value] of agreed.split('; ').slice(1).map((word) => word.split('='))) {
    assert.equal(String(params[name]), value ?? 'true', `${says}: ${name}`)
  }
  let number = 1
  for (const length of [0, 1, 125, 126, 1023, 1024, 1025, 5000, 65_536, 200_000]) {
    for (const payload of [text(length), randomBytes(length)]) {
      number += 1
      await client.comesBack(id, number, payload, 1 + (number % 4), number % 3 !== 0)
    }
  }
  const long = text(200_000)
  let bytes
  // What did not become smaller keeps the broker from trying for some messages.
  for (let n = 0; n < (shrinks ? 40 : 2); n += 1) {
    const before = client.socket._socket.bytesRead
    await client.comesBack(id, 1, long)
    bytes = client.socket._socket.bytesRead - before
    if (bytes < long.length * 0.75) break
  }
  assert.equal(bytes < long.length * 0.75, shrinks, `${says}: ${bytes} bytes for ${long.length}`)
  client.socket.close()
  const [code] = await once(client.socket, 'close')
  assert.equal(code, 1000)
  console.log(`who offers ${says} gets every message (${bytes} bytes for ${long.length})`)
}

// The offer cannot say that one's own context is to be kept at all costs (RFC 7692 §7.1.1.2): who insists on it
// sees the answer and goes, and may come back without compression.
const insisting = new Client({ clientNoContextTakeover: false })
const [refusal] = await once(insisting.socket, 'error')
assert.match(refusal.message, /Sec-WebSocket-Extensions/)

// Texts: fragments of a compressed text, and a Ping between them.
const chat = new WebSocket(`${url}chat`, { perMessageDeflate: { threshold: 0 }, headers: { Authorization: `Basic ${btoa('wes:')}` } })
await once(chat, 'open')
assert.equal(chat.extensions, 'permessage-deflate')
const said = JSON.stringify({ subscribe: ['chat/#'], ref: 'whole' })
chat.send(said.slice(0, 7), { fin: false })
chat.ping('between')
const pong = once(chat, 'pong')
chat.send(said.slice(7, 20), { fin: false })
chat.send('', { fin: false })
chat.send(said.slice(20))
const [answer, isBinary] = await once(chat, 'message')
assert.deepEqual([JSON.parse(answer).ref, isBinary], ['whole', false])
assert.equal(String((await pong)[0]), 'between')
const long = String(text(50_000))
const received = chat._socket.bytesRead
chat.send(JSON.stringify({ publish: { room: 'lobby', payload: long } }))
const payload = await new Promise((resolve) => chat.on('message', (data) => {
  const { message } = JSON.parse(data)
  if (message) resolve(message.payload)
}))
assert.equal(payload, long)
assert.ok(chat._socket.bytesRead - received < long.length * 0.75)
chat.close()
await once(chat, 'close')
console.log('texts are put together, and made smaller')
