/** The advisory lock of the relay, as decimal text: "kickrely" in ASCII, so that nobody else chooses it by chance. */
export const relayLock = "7739826747744808057"
