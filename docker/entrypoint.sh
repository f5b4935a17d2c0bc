#!/bin/sh
# The program of the image, also as `kickoff` on its path. Node.js takes this shell's place (exec): a shell would stay
# process 1 and keep SIGTERM to itself, and every stop would end in a kill. The flag, MB, keeps small what a burst leaves in
# memory before it is cleaned up; nothing becomes slower by it.
exec node --max-semi-space-size=4 /app/dist/main.js "$@"
