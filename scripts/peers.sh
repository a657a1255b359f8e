# shellcheck shell=bash
# The systems that scripts/bench.sh compares Quorate with: each as three nodes on loopback, every write synced by a
# majority before it is acknowledged, all else as its makers ship it. Sourced, never run.
#
# Each system NAME has the functions install_NAME, start_NAME (which sets PIDS[NAME]), leader_NAME (prints whom to ask, the
# leader first; fails while there is none) and fill_NAME ENDPOINTS (makes what the workloads read).

# shellcheck disable=SC2034  # read by bench.sh
declare -A PIDS=() VERSIONS=()
PEER_PORT=${QUORATE_BENCH_PORT:-17500}
# Longest wait for a system to be ready.
# shellcheck disable=SC2034  # read by bench.sh
PEER_SECONDS=60

# Debian starts what it installs; a benchmark wants its own. The rule is taken away again.
install_packages() {
  local policy=/usr/sbin/policy-rc.d made='' as_root=()
  [[ $(id --user) -eq 0 ]] || as_root=(sudo)
  say "bench: installing $*" >&2
  if [[ ! -e $policy ]]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
  fi
  # Whether it worked shows in what is there afterwards.
  "${as_root[@]}" apt-get update --quiet=2 >&2 || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "$@" >&2 || true
  if [[ -n $made ]]; then "${as_root[@]}" rm --force "$policy"; fi
}

# fill_peer NAME ENDPOINT: makes every key, through the load generator.
fill_peer() { "$PEERS" fill "$1" --endpoints "$2" --keys "$KEYS" --value-bytes "$VALUE_BYTES" --clients 64 >/dev/null; }

# leader_first LEADER ITEM...: the leader, then the others, with commas between.
leader_first() {
  local leader=$1 item
  shift
  printf '%s' "$leader"
  for item in "$@"; do [[ $item == "$leader" ]] || printf ',%s' "$item"; done
}

# --- etcd: sync is its default; the quota is raised above 2 GiB so that a long run does not end in an alarm.

ETCD_CLIENTS=("127.0.0.1:$((PEER_PORT + 11))" "127.0.0.1:$((PEER_PORT + 12))" "127.0.0.1:$((PEER_PORT + 13))")

install_etcd() {
  command -v etcd >/dev/null || install_packages etcd-server
  command -v etcd >/dev/null || die "etcd is not here and could not be installed (Debian: etcd-server)"
  VERSIONS[etcd]=$(etcd --version | sed --quiet 's/^etcd Version: /etcd /p')
}

start_etcd() {
  local node cluster pids=()
  cluster=$(for node in 1 2 3; do printf 'n%d=http://127.0.0.1:%d,' "$node" "$((PEER_PORT + 20 + node))"; done)
  for node in 1 2 3; do
    etcd --name "n$node" --data-dir "$DIR/etcd/n$node" \
      --listen-client-urls "http://127.0.0.1:$((PEER_PORT + 10 + node))" \
      --advertise-client-urls "http://127.0.0.1:$((PEER_PORT + 10 + node))" \
      --listen-peer-urls "http://127.0.0.1:$((PEER_PORT + 20 + node))" \
      --initial-advertise-peer-urls "http://127.0.0.1:$((PEER_PORT + 20 + node))" \
      --initial-cluster "${cluster%,}" --initial-cluster-state new --initial-cluster-token "bench-$$" \
      --quota-backend-bytes 8589934592 >"$DIR/etcd-$node.log" 2>&1 &
    pids+=($!)
  done
  PIDS[etcd]=${pids[*]}
}

etcd_leader() {
  local client
  for client in "${ETCD_CLIENTS[@]}"; do
    # Not --quiet: it would end curl with a broken pipe.
    if curl --silent --max-time 2 "http://$client/metrics" | grep '^etcd_server_is_leader 1' >/dev/null; then
      printf '%s' "$client"
      return
    fi
  done
  return 1
}

leader_etcd() {
  local leader
  leader=$(etcd_leader) && leader_first "$leader" "${ETCD_CLIENTS[@]}"
}
fill_etcd() { fill_peer etcd "${1%%,*}"; }

# --- ZooKeeper: forceSync is its default and said again.

ZK_CLIENTS=("127.0.0.1:$((PEER_PORT + 31))" "127.0.0.1:$((PEER_PORT + 32))" "127.0.0.1:$((PEER_PORT + 33))")

install_zookeeper() {
  [[ -e /usr/share/java/zookeeper.jar ]] || install_packages zookeeper
  [[ -e /usr/share/java/zookeeper.jar ]] || die "ZooKeeper is not here and could not be installed (Debian: zookeeper)"
  VERSIONS[zookeeper]="ZooKeeper $(dpkg-query --show --showformat '${Version}' zookeeper)"
}

start_zookeeper() {
  local node other dir class_path pids=()
  # shellcheck disable=SC1091
  class_path=$(source /etc/zookeeper/conf/environment >/dev/null 2>&1 && printf '%s' "$CLASSPATH")
  for node in 1 2 3; do
    dir=$DIR/zookeeper/n$node
    mkdir --parents "$dir/data" "$dir/conf"
    printf '%s\n' "$node" >"$dir/data/myid"
    {
      printf 'tickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\nadmin.enableServer=false\n'
      printf 'dataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n' "$dir/data" "$((PEER_PORT + 30 + node))"
      printf '4lw.commands.whitelist=srvr\n'
      for other in 1 2 3; do
        printf 'server.%d=127.0.0.1:%d:%d\n' "$other" "$((PEER_PORT + 40 + other))" "$((PEER_PORT + 50 + other))"
      done
    } >"$dir/zoo.cfg"
    printf '%s\n' 'log4j.rootLogger=ERROR, A' 'log4j.appender.A=org.apache.log4j.ConsoleAppender' \
      'log4j.appender.A.layout=org.apache.log4j.SimpleLayout' >"$dir/conf/log4j.properties"
    java -Xmx1500m -cp "$dir/conf:${class_path#*:}" -Dzookeeper.forceSync=yes \
      org.apache.zookeeper.server.quorum.QuorumPeerMain "$dir/zoo.cfg" >"$DIR/zookeeper-$node.log" 2>&1 &
    pids+=($!)
  done
  PIDS[zookeeper]=${pids[*]}
}

zookeeper_leader() {
  local client answer
  for client in "${ZK_CLIENTS[@]}"; do
    answer=$({ exec 3<>"/dev/tcp/${client/:/\/}" && printf srvr >&3 && timeout 2 cat <&3; } 2>/dev/null) || true
    if [[ $answer == *"Mode: leader"* ]]; then
      printf '%s' "$client"
      return
    fi
  done
  return 1
}

leader_zookeeper() {
  local leader
  leader=$(zookeeper_leader) && leader_first "$leader" "${ZK_CLIENTS[@]}"
}
fill_zookeeper() { fill_peer zookeeper "${1%%,*}"; }

# --- PostgreSQL: a primary and two standbys, one of which must have flushed a commit; synced with its defaults. Memory and
# log sizes are those of a machine that is meant for it, in its favour.

PG_PORT=$((PEER_PORT + 61))

install_postgres() {
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || install_packages postgresql
  PG_BIN=$(compgen -G '/usr/lib/postgresql/*/bin' | sort --version-sort | tail -1) ||
    die "PostgreSQL is not here and could not be installed (Debian: postgresql)"
  VERSIONS[postgres]="PostgreSQL $("$PG_BIN/postgres" --version | grep --only-matching '[0-9.]*' | head -1)"
}

# The server refuses to run as root: then it runs as the user its package made.
as_postgres() {
  local as=()
  [[ $(id --user) -ne 0 ]] || as=(runuser --user postgres --)
  (cd "$DIR/postgres" && "${as[@]}" "$@")
}

sql() { "$PG_BIN/psql" --host 127.0.0.1 --port "$PG_PORT" --username postgres --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 "$@"; }

pg_start() { as_postgres "$PG_BIN/pg_ctl" -D "$DIR/postgres/n$1" -l "$DIR/postgres/n$1.log" -w -o "-p $((PG_PORT + $1 - 1))" start >/dev/null; }

start_postgres() {
  local node
  mkdir --parents "$DIR/postgres"
  chmod 755 "$DIR"
  [[ $(id --user) -ne 0 ]] || chown postgres "$DIR/postgres"
  as_postgres "$PG_BIN/initdb" -D "$DIR/postgres/n1" --auth trust --username postgres >/dev/null
  as_postgres tee -a "$DIR/postgres/n1/postgresql.conf" >/dev/null <<'C'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
shared_buffers = 1GB
max_wal_size = 8GB
checkpoint_timeout = 15min
wal_level = replica
fsync = on
synchronous_commit = on
C
  pg_start 1
  for node in 2 3; do
    as_postgres "$PG_BIN/pg_basebackup" --pgdata "$DIR/postgres/n$node" --write-recovery-conf --checkpoint fast \
      --dbname "host=127.0.0.1 port=$PG_PORT user=postgres application_name=n$node"
    pg_start "$node"
  done
  sql --command "alter system set synchronous_standby_names = 'ANY 1 (n2, n3)'" --command 'select pg_reload_conf()' >/dev/null
  PIDS[postgres]=$(for node in 1 2 3; do head -1 "$DIR/postgres/n$node/postmaster.pid"; done | paste --serial --delimiters ' ')
}

postgres_ready() { [[ $(sql --command "select count(*) from pg_stat_replication where state = 'streaming'") == 2 ]]; }

leader_postgres() {
  postgres_ready && printf '127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d' "$PG_PORT" "$((PG_PORT + 1))" "$((PG_PORT + 2))"
}

# A ledger as a careful user would write it: one call a transfer, accounts locked in one order, a batch as sets.
fill_postgres() {
  sql <<'S'
create table kv(key text primary key, value bytea not null);
create table accounts(id bigint primary key, debits bigint not null default 0, credits bigint not null default 0) with (fillfactor = 40);
create table transfers(id bigserial primary key, debit_id bigint not null, credit_id bigint not null, amount bigint not null, at timestamptz not null default now());
create function transfer(d bigint, c bigint, amt bigint) returns bigint language plpgsql as $$
declare n bigint;
begin
  insert into transfers(debit_id, credit_id, amount) values (d, c, amt) returning id into n;
  if d < c then
    update accounts set debits = debits + amt where id = d;
    update accounts set credits = credits + amt where id = c;
  else
    update accounts set credits = credits + amt where id = c;
    update accounts set debits = debits + amt where id = d;
  end if;
  return n;
end $$;
create function transfer_batch(ds bigint[], cs bigint[], am bigint[]) returns void language plpgsql as $$
begin
  perform 1 from accounts where id = any(ds || cs) order by id for update;
  insert into transfers(debit_id, credit_id, amount) select * from unnest(ds, cs, am);
  update accounts a set debits = debits + t.d, credits = credits + t.c
    from (select id, sum(d)::bigint d, sum(c)::bigint c from (
            select id, a d, 0 c from unnest(ds, am) u(id, a) union all select id, 0, a from unnest(cs, am) u(id, a)) y group by id) t
    where a.id = t.id;
end $$;
S
  sql --command "insert into accounts(id) select generate_series(0, $ACCOUNTS - 1)"
  fill_peer postgres "${1%%,*}"
}
