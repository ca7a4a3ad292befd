#!/bin/sh
# Starts nats-server in docker-compose.yml. nats-server reads passwords from environment variables
# only, so this script sets them from the secret files in /run/secrets. The arguments are those of
# nats-server.
set -eu

# Prints the password of a role, in the quotes that nats-server's parser needs: without them, it
# would read a password of digits as a number.
password() {
  file=/run/secrets/nats-$1
  # The services also remove one line break at the end.
  value=$(tr -d '\r' < "$file")
  if [ "$(wc -l < "$file")" -gt 1 ] || [ -z "$value" ]; then
    echo "$file must contain one line: the password of the NATS role $1" >&2
    exit 64
  fi
  case $value in
    *[\"\\\$]*)
      echo "$file contains a quote, a backslash or a dollar sign, which nats-server cannot read" >&2
      exit 64
      ;;
  esac
  printf '"%s"' "$value"
}

WORDMILL_NATS_ADMIN_PASSWORD=$(password admin)
WORDMILL_NATS_GATEWAY_PASSWORD=$(password gateway)
WORDMILL_NATS_INSPECTOR_PASSWORD=$(password inspector)
WORDMILL_NATS_SWEEPER_PASSWORD=$(password sweeper)
WORDMILL_NATS_WORKER_PASSWORD=$(password worker)
export WORDMILL_NATS_ADMIN_PASSWORD WORDMILL_NATS_GATEWAY_PASSWORD WORDMILL_NATS_INSPECTOR_PASSWORD
export WORDMILL_NATS_SWEEPER_PASSWORD WORDMILL_NATS_WORKER_PASSWORD
exec nats-server "$@"
