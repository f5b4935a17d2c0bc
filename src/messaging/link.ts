/**
 * One connection to RabbitMQ with one confirm channel; they live and end together.
 *
 * A broker that is gone answers no close and fails no write, so the socket is ours to destroy. Confirms are matched by
 * delivery tag here: amqplib's own callbacks tell "refused" from "connection lost" only by the text of an error.
 */
import { type ConfirmChannel, connect, type Connection, IllegalOperationError } from "amqplib/callback_api"
import { Duration, Effect, Latch, Option, Redacted, Result, Schema } from "effect"
import { Writable } from "node:stream"
import { cloudEventContentType, type CommittedEvent, encodeCloudEvent } from "../domain/GameEvent.ts"
import { describeError } from "../observability/connectionError.ts"
import { type CertificateUnusable, describeRefusal, toTlsOptions, type TlsOptions } from "../tls/certificates.ts"
import { ofBrokerUrl } from "../tls/encryption.ts"
import { BrokerUnavailable, ChannelClosed, EventRefused, type PublishError } from "./Publisher.ts"
import type { Settle } from "./sequences.ts"
import { declareTopology } from "./topology.ts"

/** Why an event was not published. */
export type Refusal = PublishError["reason"]

/** No connection came about. `permanent` when only a change of configuration or topology can help. */
export class LinkFailed extends Schema.TaggedError<LinkFailed>()("LinkFailed", {
  detail: Schema.String,
  permanent: Schema.Boolean
}) {
  override get message() {
    return this.detail
  }
}

export interface LinkOptions {
  readonly url: Redacted.Redacted
  readonly exchange: string
  /** Most messages that are unconfirmed at once. */
  readonly window: number
  /** Called whenever there may be room for another message. */
  readonly onRoom: () => void
  /** Called after each change of the link's status, also while it is not handed out yet. */
  readonly onStatus: (link: Link) => void
}

export type LinkStatus =
  | { readonly _tag: "open" }
  /** The broker has stopped reading, for the reason that it gave. */
  | { readonly _tag: "blocked"; readonly reason: string }
  | { readonly _tag: "ended"; readonly reason: Refusal }

export interface Link {
  readonly status: () => LinkStatus
  /** Whether `send` may be called: the link is open, the window has room, and the socket takes more. */
  readonly hasRoom: () => boolean
  /** Sends an event; `settle` is called at its confirm or refusal, or when the link ends. */
  readonly send: (event: CommittedEvent, settle: Settle) => void
  /** Ends the link if a message has been unconfirmed for `sweepsPerConfirm` calls; on a blocked link only gives it up. */
  readonly sweep: () => void
  /** Whether a message has been confirmed on this link. */
  readonly hasConfirmed: () => boolean
  /** Waits until the link has ended. */
  readonly ended: Effect.Effect<void>
  /** Ends the link, in good order if the broker answers within a second. */
  readonly close: Effect.Effect<void>
}

/** Longest time for connecting and declaring; how long a broker may take to say goodbye. */
const limits = { open: Duration.seconds(5), close: Duration.seconds(1) }

/** Calls of `sweep` that a message may stay unconfirmed. */
export const sweepsPerConfirm = 10

/** Connects and declares the topology. Interruption destroys the socket. */
export const openLink = Effect.fn("link.open")(function* (options: LinkOptions) {
  const socket = new AbortController()
  const destroy = Effect.sync(() => socket.abort())
  return yield* reach(options.url, socket.signal).pipe(
    Effect.flatMap((connection) =>
      Effect.gen(function* () {
        const channel = yield* openChannel(connection)
        const link = makeLink(connection, channel, socket, options)
        yield* declareTopology(channel, options.exchange)
        return link
      })
    ),
    Effect.mapError((error) => new LinkFailed({ detail: error.detail, permanent: error.permanent })),
    inTime,
    Effect.onError(() => destroy)
  )
})

/** Connects, and returns what the broker calls itself, like `RabbitMQ 4.1.0`; changes nothing there. */
export const greet = Effect.fn("link.greet")(function* (url: Redacted.Redacted) {
  const socket = new AbortController()
  return yield* Effect.gen(function* () {
    const connection = yield* inTime(reach(url, socket.signal))
    const { product, version } = connection.connection.serverProperties
    yield* Effect.timeoutOption(sayGoodbye(connection), limits.close)
    return `${product} ${version}`
  }).pipe(Effect.ensuring(Effect.sync(() => socket.abort())))
})

const sayGoodbye = (connection: Connection) =>
  Effect.callback<void>((resume) => {
    // On a connection that has ended meanwhile it throws.
    if (Result.isFailure(Result.try(() => connection.close(() => resume(Effect.void))))) resume(Effect.void)
  })

const inTime = Effect.timeoutOrElse({
  duration: limits.open,
  orElse: () =>
    Effect.fail(new LinkFailed({ detail: `no answer within ${Duration.format(limits.open)}`, permanent: false }))
})

/** A connection to a URL; aborting destroys its socket. */
const reach = (url: Redacted.Redacted, signal: AbortSignal): Effect.Effect<Connection, LinkFailed> =>
  readTls(url).pipe(
    Effect.mapError(({ message }) => new LinkFailed({ detail: message, permanent: true })),
    Effect.flatMap((tls) => openConnection(url, tls, signal))
  )

/** How to encrypt; empty in clear. The settings have found the URL to be readable. */
export const readTls = (url: Redacted.Redacted): Effect.Effect<TlsOptions, CertificateUnusable> =>
  Option.match(Result.getOrThrow(ofBrokerUrl(new URL(Redacted.value(url)))), {
    onNone: () => Effect.succeed({}),
    onSome: toTlsOptions
  })

const openConnection = (
  url: Redacted.Redacted,
  tls: TlsOptions,
  signal: AbortSignal
): Effect.Effect<Connection, LinkFailed> =>
  Effect.callback((resume) => {
    const options = {
      ...tls,
      noDelay: true,
      keepAlive: true,
      writableHighWaterMark: socketBuffer,
      clientProperties: { connection_name: "kickoff" },
      signal
    }
    connect(withHeartbeat(url), options, (error: Error | null, connection) => {
      if (error !== null) {
        resume(Effect.fail(connectFailed(error, userOf(url))))
        return
      }
      // An `error` event that nobody hears ends the process.
      connection.on("error", () => {})
      resume(Effect.succeed(connection))
    })
  })

const openChannel = (connection: Connection): Effect.Effect<ConfirmChannel, LinkFailed> =>
  Effect.callback((resume) => {
    const channel = connection.createConfirmChannel((error: Error | null) =>
      resume(
        error === null
          ? Effect.succeed(channel)
          : Effect.fail(new LinkFailed({ detail: describeError(error), permanent: false }))
      )
    )
    channel.on("error", () => {})
  })

/** amqplib takes the heartbeat from the URL alone. */
const withHeartbeat = (url: Redacted.Redacted): string => {
  const parsed = new URL(Redacted.value(url))
  if (!parsed.searchParams.has("heartbeat")) parsed.searchParams.set("heartbeat", "10")
  return parsed.href
}

/** Who logs in; amqplib takes the broker's own guest where the URL names nobody. */
const userOf = (url: Redacted.Redacted): string => {
  const { username } = new URL(Redacted.value(url))
  return username === "" ? "guest" : decodeURIComponent(username)
}

const connectFailed = (error: Error, user: string): LinkFailed => {
  const permanent = (detail: string) => new LinkFailed({ detail, permanent: true })
  const refusal = describeRefusal(error)
  if (refusal !== undefined) return permanent(`${refusal}; the parameter cacertfile of the URL names the CA's file`)
  if (/ACCESS[-_]REFUSED/.test(error.message)) {
    return permanent(
      `it refused the login of user '${user}' (ACCESS_REFUSED): the user is missing, or has another password than ` +
        "RABBITMQ_URL; rabbitmqctl add_user or change_password mends it"
    )
  }
  // amqplib keeps the broker's own words to itself here.
  if (/ConnectionOpenOk; got <ConnectionClose/.test(error.message)) {
    return permanent(
      `it refused the virtual host to user '${user}': it is missing, or the user may not enter it; ` +
        "rabbitmqctl add_vhost or set_permissions mends it"
    )
  }
  return new LinkFailed({ detail: describeError(error), permanent: false })
}

interface Unconfirmed {
  readonly event_id: string
  readonly settle: Settle
  /** Number of the sweep before which it was sent. */
  readonly sweep: number
}

/** Stands for a message whose sender has been told that it is not confirmed. */
const givenUp: Unconfirmed = { event_id: "", settle: () => {}, sweep: 0 }

const makeLink = (
  connection: Connection,
  channel: ConfirmChannel,
  socket: AbortController,
  options: LinkOptions
): Link => {
  /** By delivery tag, which counts from 1 on each channel. In the order of sending. */
  const unconfirmed = new Map<number, Unconfirmed>()
  /** Events that came back; each one's confirm, which follows, says nothing of that. */
  const returned = new Set<string>()
  const ended = Latch.makeUnsafe(false)
  const closed = Latch.makeUnsafe(false)
  let lastTag = 0
  let sweepNumber = 0
  let status: LinkStatus = { _tag: "open" }
  let isFull = false
  let hasConfirmed = false

  const enter = (next: LinkStatus) => {
    if (status._tag === "ended") return
    status = next
    options.onStatus(self)
  }

  const end = (reason: Refusal) => {
    if (status._tag === "ended") return
    // The owner first: whoever is told of a failure goes on in this very turn, and must find the link gone.
    enter({ _tag: "ended", reason })
    for (const { settle } of unconfirmed.values()) settle(reason)
    unconfirmed.clear()
    ended.openUnsafe()
  }

  const confirm = (tag: number, refusal: Refusal | undefined) => {
    const message = unconfirmed.get(tag)
    if (message === undefined) return
    if (returned.delete(message.event_id)) {
      // Connecting anew declares anew what is missing.
      return end(unavailable(`event ${message.event_id} came back: the alternate exchange or its queue is missing`))
    }
    unconfirmed.delete(tag)
    hasConfirmed = true
    message.settle(refusal)
  }

  const onConfirms = (fields: { deliveryTag: number; multiple: boolean }, refusal?: Refusal) => {
    if (fields.multiple) {
      for (const tag of unconfirmed.keys()) {
        if (tag > fields.deliveryTag) break
        confirm(tag, refusal)
      }
    } else confirm(fields.deliveryTag, refusal)
    options.onRoom()
  }

  channel.on("ack", (fields) => onConfirms(fields))
  channel.on("nack", (fields) =>
    onConfirms(fields, new EventRefused({ detail: "it answered with a negative confirm (nack): a queue refused it" }))
  )
  channel.on("return", (message) => {
    returned.add(String(message.properties.messageId))
  })
  channel.on("drain", () => {
    isFull = false
    options.onRoom()
  })
  channel.on("error", (error) => end(endReason(error)))
  // Without an error before it the whole connection ends, and says in this same turn why.
  channel.on("close", () => queueMicrotask(() => end(unavailable("the connection was closed"))))
  connection.on("error", (error) => end(endReason(error)))
  connection.on("close", (error) => {
    closed.openUnsafe()
    end(error === undefined ? unavailable("the connection was closed") : endReason(error))
  })
  connection.on("blocked", (reason) => enter({ _tag: "blocked", reason }))
  connection.on("unblocked", () => enter({ _tag: "open" }))

  const gather = gatherWrites(connection)

  const send = (event: CommittedEvent, settle: Settle) => {
    gather()
    const written = Result.try({
      try: () =>
        channel.publish(options.exchange, event.type, Buffer.from(encodeCloudEvent(event)), {
          persistent: true,
          mandatory: true,
          messageId: event.event_id,
          type: event.type,
          contentType: cloudEventContentType,
          appId: "kickoff",
          ...(event.traceparent === null ? {} : { headers: { traceparent: event.traceparent } }),
          timestamp: Math.floor(Date.parse(event.time) / 1000)
        }),
      catch: (error) => (error instanceof Error ? error : new Error(String(error)))
    })
    if (Result.isSuccess(written)) {
      unconfirmed.set(++lastTag, { event_id: event.event_id, settle, sweep: sweepNumber })
      isFull = !written.success
    } else if (written.failure instanceof IllegalOperationError) {
      const reason = unavailable(written.failure.message)
      settle(reason)
      end(reason)
    } else settle(new EventRefused({ detail: `it could not be encoded: ${written.failure.message}` }))
  }

  const sweep = () => {
    sweepNumber++
    for (const [tag, message] of unconfirmed) {
      if (message === givenUp) continue
      if (sweepNumber - message.sweep <= sweepsPerConfirm) return
      if (status._tag !== "blocked") return end(unavailable("it did not confirm in time"))
      // Nothing is wrong with the connection: the place in the window stays taken until the broker reads on.
      unconfirmed.set(tag, givenUp)
      message.settle(unavailable(`it is blocked (${status.reason}) and did not confirm in time`))
    }
  }

  const close = Effect.suspend(() => {
    end(unavailable("Kickoff closes the connection"))
    // It throws when the connection is closing already; then its end is all there is to wait for.
    Result.try(() => connection.close())
    return closed.await
  }).pipe(Effect.timeoutOption(limits.close), Effect.ensuring(Effect.sync(() => socket.abort())), Effect.asVoid)

  const self: Link = {
    status: () => status,
    hasRoom: () => status._tag === "open" && !isFull && unconfirmed.size < options.window,
    send,
    sweep,
    hasConfirmed: () => hasConfirmed,
    ended: ended.await,
    close
  }
  return self
}

/**
 * Makes one write to the socket of all messages that are sent in one turn of the event loop. amqplib writes each of them
 * on its own, which in a burst costs more than all its other work.
 */
const gatherWrites = (connection: Connection): (() => void) => {
  // The types do not show the socket that amqplib's connection writes to.
  const { stream } = connection.connection as { readonly stream?: unknown }
  if (!(stream instanceof Writable)) return () => {}
  let gathering = false
  return () => {
    if (gathering) return
    gathering = true
    stream.cork()
    // amqplib hands its messages to the socket in the next turn, which it asks for in the next tick: this comes right after.
    process.nextTick(() =>
      process.nextTick(() =>
        setImmediate(() => {
          gathering = false
          stream.uncork()
        })
      )
    )
  }
}

/** How much may be written to a socket before it wants to be drained, bytes: more than a whole window of messages. */
const socketBuffer = 2 ** 20

const unavailable = (detail: string) => new BrokerUnavailable({ detail })

/**
 * Replies with which a broker ends a channel or connection because of what a message contains: CONTENT_TOO_LARGE,
 * PRECONDITION_FAILED (larger than `max_message_size`), FRAME_ERROR, SYNTAX_ERROR, UNEXPECTED_FRAME. All others speak of
 * the broker, its topology (404: the exchange is missing) or its permissions.
 */
const contentReplies: ReadonlySet<unknown> = new Set([311, 406, 501, 502, 505])

const endReason = (error: Error): Refusal => {
  const detail = describeError(error)
  return "code" in error && contentReplies.has(error.code) ? new ChannelClosed({ detail }) : unavailable(detail)
}
