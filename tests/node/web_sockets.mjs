// A page that speaks with the WebSocket of its browser, without any library: at /chat as JSON, at /mqtt as
// bytes. What it says and hears goes through the same rooms as what somebody else says over MQTT.
//
//   node web_sockets.mjs http://127.0.0.1:8083/ 1883
//
// Rooms are managed. alice and bob have the password "correct horse"; when this says that the end may come,
// the broker is stopped.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import mqtt from 'mqtt'
import packets from 'mqtt-packet'
import { Person, step, withBrowser } from './browser.mjs'
import { openGate } from './gate.mjs'

const [url, port] = process.argv.slice(2)
const PASSWORD = 'correct horse'
const AGREED = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover'
/** Far above `websocket.compress_from_bytes`, and as compressible as what people say. */
const LONG = Array.from({ length: 400 }, (_, n) => `item ${n} of the agenda: what was said, by whom, and until when`).join('\n')

/** Somebody with a page that does nothing by itself. */
class Talker extends Person {
  async signIn() {}

  /** What a page calls `fetch`. */
  fetch(path, body) {
    return this.page.evaluate(async ([at, sent]) => {
      const headers = { 'Content-Type': 'application/json' }
      const response = await fetch(at, { method: 'POST', headers, body: JSON.stringify(sent) })
      return response.status
    }, [path, body ?? {}])
  }

  /** A WebSocket of the page, by a name; gives the extension that was agreed on, or how it ended. */
  open(name, path, protocols = []) {
    return this.page.evaluate(([as, at, spoken]) => {
      const socket = new WebSocket(at, spoken)
      socket.binaryType = 'arraybuffer'
      const line = { socket, texts: [], bytes: [], end: null }
      const kept = (globalThis.lines ??= {})
      kept[as] = line
      return new Promise((resolve) => {
        socket.onmessage = ({ data }) => (typeof data === 'string' ? line.texts.push(data) : line.bytes.push(...new Uint8Array(data)))
        socket.onopen = () => resolve(socket.extensions)
        socket.onclose = ({ code, wasClean }) => {
          line.end = { code, wasClean }
          resolve(line.end)
        }
      })
    }, [name, new URL(path, this.url).href.replace('http', 'ws'), protocols])
  }

  say(name, what) {
    const text = typeof what === 'string' ? what : JSON.stringify(what)
    return this.page.evaluate(([as, said]) => lines[as].socket.send(said), [name, text])
  }

  sayBytes(name, bytes) {
    return this.page.evaluate(([as, said]) => lines[as].socket.send(new Uint8Array(said)), [name, [...bytes]])
  }

  heard(name) {
    return this.page.evaluate((as) => lines[as].texts, name)
  }

  /** Everything that was heard as an object, but for how far one has come. */
  async objects(name) {
    const objects = (await this.heard(name)).filter((text) => text.startsWith('{')).map((text) => JSON.parse(text))
    return objects.filter((object) => object.subscribed || !object.cursor)
  }

  async payloads(name) {
    return (await this.objects(name)).flatMap(({ message }) => (message ? [message.payload] : []))
  }

  hears(name, text) {
    return this.until(([as, part]) => lines[as].texts.some((one) => one.includes(part)), [name, text])
  }

  /** How a WebSocket ended; waits for that. */
  async ended(name) {
    await this.until((as) => lines[as].end, name)
    return this.page.evaluate((as) => lines[as].end, name)
  }
}

const bob = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, {
  username: 'bob',
  password: PASSWORD,
  protocolVersion: 5,
  reconnectPeriod: 0,
})
const heard = []
const waiting = new Set()
bob.on('message', (topic, payload, packet) => {
  heard.push({ topic, text: payload.toString(), properties: packet.properties?.userProperties ?? {} })
  for (const look of waiting) look()
})
/** The message that fits, now or when it comes. */
function hears(fits) {
  return new Promise((resolve) => {
    const look = () => {
      const found = heard.find(fits)
      if (!found) return
      waiting.delete(look)
      resolve(found)
    }
    waiting.add(look)
    look()
  })
}
async function ask(method, request) {
  const id = Math.random()
  await bob.publishAsync(`user/bob/request/${method}`, JSON.stringify({ id, ...request }), { qos: 1 })
  const answer = JSON.parse((await hears(({ topic, text }) => topic === 'user/bob/reply' && JSON.parse(text).id === id)).text)
  assert.ok(answer.ok, JSON.stringify(answer))
}
const say = (room, text) => bob.publishAsync(`chat/${room}/bob`, text, { qos: 1 })
await bob.subscribeAsync(['chat/#', 'dm/bob/#', 'user/bob/reply'], { qos: 1 })
await ask('create', { room: 'cellar', kind: 'private' })
await ask('invite', { room: 'cellar', user: 'alice' })

const gate = await openGate(url)
await withBrowser(async (visit) => {
  const alice = await visit(`${gate.url}v1/docs`, 'alice', { as: Talker })
  let cursor

  await step('a page without a login is not let in, and the cookie of one is enough', async () => {
    assert.deepEqual(await alice.open('chat', '/chat'), { code: 1006, wasClean: false })
    assert.equal(await alice.fetch('/v1/login', { user: 'alice', password: PASSWORD }), 200)
    assert.equal(await alice.page.evaluate(() => document.cookie), '', 'scripts do not see it')
    assert.equal(await alice.fetch('/v1/rooms/cellar/join'), 200)
    assert.equal(await alice.open('chat', '/chat'), AGREED)
  })
  await step('what a page says and what an MQTT client says meet in the same room', async () => {
    await alice.say('chat', { subscribe: [], ref: 1 })
    await alice.hears('chat', '"subscribed"')
    await say('cellar', 'hello from a device')
    await alice.hears('chat', 'hello from a device')
    await alice.say('chat', { publish: { room: 'cellar', payload: 'hello, 你好 👋', mentions: ['bob'] }, ref: { n: 2 } })
    await alice.hears('chat', '"published"')
    const { text, properties } = await hears(({ topic }) => topic === 'chat/cellar/alice')
    assert.equal(text, 'hello, 你好 👋')
    const objects = await alice.objects('chat')
    const { published, ref } = objects.find((object) => object.published)
    assert.deepEqual([ref, String(published.seq), published.id], [{ n: 2 }, properties.seq, properties.id])
    const { message } = objects.find((object) => object.message?.payload === 'hello from a device')
    assert.deepEqual([message.room, message.from, message.seq], ['cellar', 'bob', 1])
    await alice.say('chat', { publish: { to: 'bob', payload: 'a word with you' } })
    await hears(({ topic, text: said }) => topic === 'dm/bob/alice' && said === 'a word with you')
    await alice.say('chat', { publish: { topic: 'chat/cellar/bob', payload: 'forged' }, ref: 3 })
    await alice.hears('chat', '"ref":3')
    const { error } = (await alice.objects('chat')).find((object) => object.ref === 3)
    assert.equal(error.status, 403)
  })
  await step('signs of life are passed over, and given', async () => {
    const before = (await alice.objects('chat')).length
    for (const text of ['', '{"heartbeat":1}', '{"heartbeat":{"at":12}}', 'heartbeat']) await alice.say('chat', text)
    await alice.say('chat', 'ping')
    await alice.until(() => lines.chat.texts.includes('pong'))
    // The broker's own, which say how far one has come.
    const beats = () => lines.chat.texts.filter((text) => text.startsWith('{"cursor"')).length
    const count = await alice.page.evaluate(beats)
    await alice.until((least) => lines.chat.texts.filter((text) => text.startsWith('{"cursor"')).length > least, count)
    assert.equal((await alice.objects('chat')).length, before, 'nothing else was answered')
  })
  await step('what is long is short on the wire, both ways', async () => {
    gate.carried('/chat')
    await say('cellar', LONG)
    await alice.until((text) => lines.chat.texts.some((one) => JSON.parse(one.startsWith('{') ? one : '{}').message?.payload === text), LONG)
    const down = gate.carried('/chat')
    await alice.say('chat', { publish: { room: 'cellar', payload: LONG }, ref: 'long' })
    await hears(({ topic, text }) => topic === 'chat/cellar/alice' && text === LONG)
    await alice.hears('chat', '"ref":"long"')
    // One's own message comes back, too.
    await alice.until((text) => lines.chat.texts.filter((one) => one.includes(JSON.stringify(text))).length === 2, LONG)
    const both = gate.carried('/chat')
    assert.ok(down < LONG.length / 3, `${down} bytes for ${LONG.length}`)
    assert.ok(both < (2 * LONG.length) / 3, `${both} bytes for twice ${LONG.length}`)
  })
  await step('a page whose network was lost comes back with a cursor, and misses nothing', async () => {
    const texts = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => `number ${from + n}`)
    for (const text of texts(1, 3)) await say('cellar', text)
    await alice.hears('chat', 'number 3')
    gate.close('/chat')
    assert.deepEqual(await alice.ended('chat'), { code: 1006, wasClean: false })
    cursor = (await alice.objects('chat')).at(-1).message.cursor
    for (const text of texts(4, 30)) await say('cellar', text)
    gate.reopen('/chat')
    await alice.open('again', `/chat?filter=chat/%23&since=${cursor}`)
    await say('cellar', 'number 31')
    await alice.hears('again', 'number 31')
    assert.deepEqual(await alice.payloads('again'), texts(4, 31))
  })
  await step('who is removed from a room sees nothing more of it, with an old cursor neither', async () => {
    await ask('kick', { room: 'cellar', user: 'alice' })
    await say('cellar', 'a secret')
    const until = (name) => alice.until((as) => lines[as].texts.some((text) => text.includes('the fence')), name)
    await alice.open('later', '/chat')
    await alice.say('later', { subscribe: ['chat/#', 'dm/#'], since: cursor })
    await alice.hears('later', '"subscribed"')
    await alice.say('again', { subscribe: ['chat/#', 'dm/#'], since: cursor })
    await alice.until(() => lines.again.texts.some((text) => text.includes('"subscribed"')))
    await say('cellar', 'another secret')
    await bob.publishAsync('dm/alice/bob', 'the fence', { qos: 1 })
    for (const name of ['again', 'later']) {
      await until(name)
      const seen = (await alice.heard(name)).join('\n')
      assert.ok(!seen.includes('secret'), `${name}: ${seen}`)
    }
    assert.deepEqual(await alice.payloads('later'), ['the fence'])
    await alice.say('later', { publish: { room: 'cellar', payload: 'let me in' }, ref: 'out' })
    await alice.hears('later', '"ref":"out"')
    assert.ok((await alice.objects('later')).find(({ ref }) => ref === 'out').error)
  })
  await step('a page of another host is refused, whatever cookie its browser has', async () => {
    const server = createServer((_, answer) => answer.end('<p>elsewhere</p>'))
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    const page = await alice.page.context().newPage()
    await page.goto(`http://localhost:${server.address().port}/`)
    for (const [path, protocols] of [['chat', []], ['mqtt', ['mqtt']]]) {
      const end = await page.evaluate(([at, spoken]) => new Promise((resolve) => {
        const socket = new WebSocket(at, spoken)
        socket.onopen = () => resolve('it is open')
        socket.onclose = ({ code }) => resolve(code)
      }), [gate.url.replace('http', 'ws') + path, protocols])
      assert.equal(end, 1006)
    }
    await page.close()
    server.close()
  })
  const connect = (name) => packets.generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 5, clean: true, clientId: name, username: 'alice', keepalive: 0 }, { protocolVersion: 5 })
  const openMqtt = async (name) => {
    assert.equal(await alice.open(name, '/mqtt', ['mqtt']), AGREED)
    await alice.sayBytes(name, connect(name))
    await alice.until((as) => lines[as].bytes.length >= 4, name)
    const [first, , , reason] = await alice.page.evaluate((as) => lines[as].bytes.splice(0), name)
    assert.deepEqual([first, reason], [0x20, 0])
  }
  await step('MQTT in the frames of a browser is signed in by the cookie, and compressed as well', async () => {
    await openMqtt('bytes')
    gate.carried('/mqtt')
    const publish = packets.generate({ cmd: 'publish', topic: 'dm/bob/alice', payload: LONG, qos: 1, messageId: 1, dup: false, retain: false }, { protocolVersion: 5 })
    await alice.sayBytes('bytes', publish)
    await hears(({ topic, text }) => topic === 'dm/bob/alice' && text === LONG)
    const carried = gate.carried('/mqtt')
    assert.ok(carried < LONG.length / 3, `${carried} bytes for ${LONG.length}`)
  })
  await step('how it ended is said by a close code', async () => {
    const clean = (code) => ({ code, wasClean: true })
    const ends = async (name, code) => assert.deepEqual(await alice.ended(name), clean(code), name)
    await alice.page.evaluate(() => lines.later.socket.close())
    await ends('later', 1000)
    await alice.sayBytes('bytes', packets.generate({ cmd: 'disconnect', reasonCode: 0 }, { protocolVersion: 5 }))
    await ends('bytes', 1000)
    await openMqtt('twice')
    await alice.sayBytes('twice', connect('twice'))
    await ends('twice', 1002)
    await openMqtt('texter')
    await alice.say('texter', 'MQTT is binary')
    await ends('texter', 1003)
    await alice.open('binary', '/chat')
    await alice.sayBytes('binary', [1, 2, 3])
    await ends('binary', 1003)
    await openMqtt('malformed')
    await alice.sayBytes('malformed', [0x36, 5, 0, 1, 0x74, 0, 1])
    await ends('malformed', 1007)
    await openMqtt('same')
    await alice.page.evaluate(() => (lines.first = lines.same))
    await openMqtt('same')
    await ends('first', 1008)
    await openMqtt('large')
    // More than `mqtt.max_packet_bytes` are announced.
    await alice.sayBytes('large', [0x30, 0xff, 0xff, 0xff, 0x7f])
    await ends('large', 1009)
    await alice.open('long', '/chat')
    await alice.page.evaluate(() => lines.long.socket.send('x'.repeat(2_000_000)))
    await ends('long', 1009)
  })
  await step('a login that is taken back ends what it opened', async () => {
    assert.equal(await alice.fetch('/v1/logout'), 204)
    for (const name of ['again', 'same']) assert.deepEqual(await alice.ended(name), { code: 1008, wasClean: true }, name)
    assert.deepEqual(await alice.open('never', '/chat'), { code: 1006, wasClean: false })
  })
  await step('a broker that stops says so', async () => {
    assert.equal(await alice.fetch('/v1/login', { user: 'alice', password: PASSWORD }), 200)
    await alice.open('chat', '/chat')
    await openMqtt('mqtt')
    console.log('the end may come')
    for (const name of ['chat', 'mqtt']) assert.deepEqual(await alice.ended(name), { code: 1001, wasClean: true }, name)
  })
})
