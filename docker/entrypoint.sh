#!/bin/sh
# The program of the image, also as `kickoff` on its path. Node.js takes this shell's place (exec): a shell would stay
# process 1 and keep SIGTERM to itself, and every stop would end in a kill.
exec node /app/dist/main.js "$@"
