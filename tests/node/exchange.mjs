// mqtt.js against a broker: every QoS, retained messages, a will, a persistent session, and in
// MQTT 5 the properties.
//
//   node exchange.mjs tcp://127.0.0.1:1883 4
//   node exchange.mjs ws://127.0.0.1:8083/mqtt 5
//
// Prints a line for each part that went well, and ends with 1 at the first that did not.

import assert from 'node:assert/strict'
import mqtt from 'mqtt'

const [url, version] = [process.argv[2], Number(process.argv[3])]
const isV5 = version === 5
const space = `js/${version}/${new URL(url).protocol.slice(0, -1)}`
// Only a failure waits so long.
const DEADLINE_MS = 20_000

const open = []

async function connect(clientId, options = {}) {
  const client = mqtt.connect(url, {
    protocolVersion: version,
    clientId: clientId && `${space.replaceAll('/', '-')}-${clientId}`,
    username: 'js',
    reconnectPeriod: 0,
    connectTimeout: DEADLINE_MS,
    ...options,
  })
  open.push(client)
  const waiting = []
  const arrived = []
  client.on('message', (topic, payload, packet) => {
    const message = { topic, text: payload.toString(), packet }
    if (waiting.length > 0) waiting.shift()(message)
    else arrived.push(message)
  })
  client.next = () =>
    new Promise((resolve, reject) => {
      if (arrived.length > 0) return resolve(arrived.shift())
      const late = setTimeout(() => reject(new Error('no message came in time')), DEADLINE_MS)
      waiting.push((message) => {
        clearTimeout(late)
        resolve(message)
      })
    })
  client.connack = await new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
    client.once('close', () => reject(new Error('closed before CONNACK')))
  })
  return client
}

const parts = {
  async 'every QoS'() {
    const [receiver, sender] = [await connect('receiver'), await connect('sender')]
    for (const qos of [0, 1, 2]) {
      const granted = await receiver.subscribeAsync(`${space}/qos/${qos}`, { qos })
      assert.equal(granted[0].qos, qos)
    }
    for (const qos of [0, 1, 2]) {
      for (const limit of [0, 1, 2]) {
        await sender.publishAsync(`${space}/qos/${limit}`, `sent at ${qos}`, { qos })
        const { topic, text, packet } = await receiver.next()
        assert.equal(topic, `${space}/qos/${limit}`)
        assert.equal(text, `sent at ${qos}`)
        assert.equal(packet.qos, Math.min(qos, limit))
      }
    }
  },

  async 'a retained message'() {
    const [topic, sender] = [`${space}/retained`, await connect('retainer')]
    await sender.publishAsync(topic, 'kept', { qos: 1, retain: true })
    const receiver = await connect('late')
    await receiver.subscribeAsync(topic, { qos: 1 })
    const message = await receiver.next()
    assert.equal(message.text, 'kept')
    assert.equal(message.packet.retain, true)
    await sender.publishAsync(topic, '', { qos: 1, retain: true })
    assert.equal((await receiver.next()).packet.retain, false)
    const later = await connect('later')
    await later.subscribeAsync(topic, { qos: 1 })
    await sender.publishAsync(topic, 'live', { qos: 1 })
    assert.equal((await later.next()).text, 'live')
  },

  async 'a will'() {
    const receiver = await connect('heir')
    await receiver.subscribeAsync(`${space}/will`, { qos: 1 })
    const will = { topic: `${space}/will`, payload: Buffer.from('gone'), qos: 1 }
    const mortal = await connect('mortal', { will })
    mortal.stream.destroy()
    assert.equal((await receiver.next()).text, 'gone')
    const polite = await connect('polite', { will: { ...will, payload: Buffer.from('never') } })
    await polite.endAsync()
    await receiver.publishAsync(`${space}/will`, 'after', { qos: 1 })
    assert.equal((await receiver.next()).text, 'after')
  },

  async 'a persistent session'() {
    const options = { clean: false, properties: isV5 ? { sessionExpiryInterval: 3600 } : undefined }
    let receiver = await connect('absent', options)
    assert.equal(receiver.connack.sessionPresent, false)
    await receiver.subscribeAsync(`${space}/absent/#`, { qos: 2 })
    await receiver.endAsync()
    const sender = await connect('patient')
    for (const qos of [1, 1, 2, 2]) {
      await sender.publishAsync(`${space}/absent/${qos}`, `at ${qos}`, { qos })
    }
    receiver = await connect('absent', options)
    assert.equal(receiver.connack.sessionPresent, true)
    for (const qos of [1, 1, 2, 2]) {
      const { topic, text, packet } = await receiver.next()
      assert.deepEqual([topic, text, packet.qos], [`${space}/absent/${qos}`, `at ${qos}`, qos])
    }
    await receiver.endAsync()
    await (await connect('absent', { clean: true })).endAsync()
    receiver = await connect('absent', options)
    assert.equal(receiver.connack.sessionPresent, false)
  },
}

const partsOfV5 = {
  async 'the properties of a message'() {
    const [receiver, sender] = [await connect('reader'), await connect('writer')]
    await receiver.subscribeAsync(`${space}/properties`, {
      qos: 1,
      properties: { subscriptionIdentifier: 77 },
    })
    await sender.publishAsync(`${space}/properties`, 'look', {
      qos: 1,
      properties: {
        payloadFormatIndicator: true,
        messageExpiryInterval: 600,
        responseTopic: `${space}/answers`,
        correlationData: Buffer.from([1, 2, 255]),
        userProperties: { colour: 'blue', size: ['1', '2'] },
        contentType: 'text/plain',
      },
    })
    const { properties } = (await receiver.next()).packet
    assert.equal(properties.payloadFormatIndicator, true)
    assert.ok(properties.messageExpiryInterval <= 600 && properties.messageExpiryInterval > 500)
    assert.equal(properties.responseTopic, `${space}/answers`)
    assert.deepEqual(properties.correlationData, Buffer.from([1, 2, 255]))
    assert.equal(properties.userProperties.colour, 'blue')
    assert.deepEqual(properties.userProperties.size, ['1', '2'])
    assert.equal(properties.contentType, 'text/plain')
    assert.equal(properties.subscriptionIdentifier, 77)
  },

  async 'what the broker assigns and announces'() {
    const nameless = await connect('', { clientId: '' })
    assert.ok(nameless.connack.properties.assignedClientIdentifier)
    assert.ok(nameless.connack.properties.topicAliasMaximum > 0)
  },

  async 'topic aliases'() {
    const receiver = await connect('aliased', { properties: { topicAliasMaximum: 5 } })
    await receiver.subscribeAsync(`${space}/a/rather/long/topic`, { qos: 1 })
    const sender = await connect('aliasing', { autoUseTopicAlias: true, autoAssignTopicAlias: true })
    for (const text of ['one', 'two', 'three']) {
      await sender.publishAsync(`${space}/a/rather/long/topic`, text, { qos: 1 })
      const message = await receiver.next()
      assert.deepEqual([message.topic, message.text], [`${space}/a/rather/long/topic`, text])
    }
  },

  async 'no local, and retain as published'() {
    const client = await connect('narcissus')
    await client.subscribeAsync(`${space}/mirror`, { qos: 1, nl: true, rap: true })
    await client.publishAsync(`${space}/mirror`, 'mine', { qos: 1 })
    const other = await connect('echo')
    await other.publishAsync(`${space}/mirror`, 'yours', { qos: 1, retain: true })
    const message = await client.next()
    assert.deepEqual([message.text, message.packet.retain], ['yours', true])
    await other.publishAsync(`${space}/mirror`, '', { qos: 1, retain: true })
  },

  async 'a shared subscription'() {
    const workers = [await connect('worker-1'), await connect('worker-2')]
    for (const worker of workers) {
      await worker.subscribeAsync(`$share/workers/${space}/work`, { qos: 1 })
    }
    const sender = await connect('boss')
    const sent = Array.from({ length: 20 }, (_, index) => `task ${index}`)
    const done = []
    const all = new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error(`only ${done.length} arrived`)), DEADLINE_MS).unref()
      for (const worker of workers) {
        worker.on('message', (_, payload) => {
          if (done.push(payload.toString()) === sent.length) resolve()
        })
      }
    })
    for (const task of sent) await sender.publishAsync(`${space}/work`, task, { qos: 1 })
    await all
    assert.deepEqual(done.toSorted(), sent.toSorted())
  },
}

let failed = false
for (const [name, part] of Object.entries(isV5 ? { ...parts, ...partsOfV5 } : parts)) {
  try {
    await part()
    console.log(`ok: ${name}`)
  } catch (error) {
    console.error(`${name}: ${error.stack}`)
    failed = true
    break
  }
}
for (const client of open) client.end(true)
process.exit(failed ? 1 : 0)
