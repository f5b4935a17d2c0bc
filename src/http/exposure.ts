/**
 * Who can reach the server: everybody on the network, or this machine alone.
 *
 * Only what is certain counts as this machine: another name could lead anywhere, today or tomorrow.
 */
import { BlockList, isIP } from "node:net"

const loopback = new BlockList()
loopback.addSubnet("127.0.0.0", 8)
loopback.addAddress("::1", "ipv6")

const isLoopbackAddress = (address: string): boolean => {
  const family = isIP(address)
  return family !== 0 && loopback.check(address, family === 4 ? "ipv4" : "ipv6")
}

/** Whether only this machine can connect to a server that listens on this host. */
export const isLoopback = (host: string): boolean =>
  host.toLowerCase() === "localhost" || isLoopbackAddress(host.replace(/^\[(.*)\]$/, "$1"))

/** Whether a `Host` header says an address, or a name that nobody on the internet can have: without a dot, or of `localhost`. */
export const isLocalName = (header: string): boolean => {
  const host = header.replace(/:\d*$/, "").toLowerCase()
  return isIP(host.replace(/^\[(.*)\]$/, "$1")) !== 0 || /^[\w-]*$|\.localhost$/.test(host)
}
