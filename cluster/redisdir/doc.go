// Package redisdir is a [cluster.Directory] in Redis 6.2 or later, or Valkey 7.2 or
// later: one server, one that Sentinel watches, or a Redis Cluster. Whatever stands
// between has to speak version 3 of the protocol (RESP3), with messages.
//
// A directory needs no connection to begin with. It connects at the first call, and
// again after a loss, so a node can start while the store is down. It keeps one
// connection to each server it writes to, and one more for Watch.
//
// # What is stored
//
// Every key and channel begins with [Config.KeyPrefix], "wst:" by default.
//
//	wst:t:<id>     string  an entry; lives for cluster.EntryLife
//	wst:n:<node>   string  a node; lives for cluster.NodeLife
//	wst:nodes      zset    names of nodes, by the second of their last beat
//	wst:check:<n>  string  written and deleted by Ping
//	wst:ev         channel what has changed
//	wst:hb:<x>     channel a heartbeat of one Watch, for itself
//
// Values are words with one space between them. The first is the version of the
// format, and the texts are escaped as in the query of a URL:
//
//	1 <gen> <attempt> <node> <boot> <instance> <signature>
//	1 <boot> <state> <address> <version> <tunnels> <beat, ns since 1970> <signature>
//
// Messages on wst:ev are a letter, an id or a node's name, and its value: "c" for an
// entry that was stored, "r" for one that was deleted, "n" for a node that came or
// changed, "l" for one that left.
//
// A later version may add words at the end, which this one ignores. A value of another
// form, or longer than 2 KiB, counts as absent, and the next Put or Beat overwrites it.
// So nobody who can write to the store can block an id with what he writes, or make a
// node hold more than a few KiB of it.
//
// # How it is written
//
// Every change is a script of a single key, with GETRANGE, SET, PEXPIRE, DEL, PUBLISH, and
// for the list of nodes TIME, TYPE, ZADD, ZREVRANGE, ZREMRANGEBYSCORE, ZREMRANGEBYRANK
// and EXPIRE. The order of entries is not in a script: a script stores an entry if
// there is none, or the one that [cluster.Judge] has seen and has found older. So
// the first registration of an id and a refresh take one round trip, and one that
// replaces another takes two.
//
// A user of the store who may do no more than that:
//
//	ACL SETUSER websocktunnel on >password ~wst:* &wst:* -@all +eval +getrange +set
//	  +pexpire +del +publish +time +type +zadd +zrevrange +zremrangebyscore
//	  +zremrangebyrank +expire +subscribe +unsubscribe +ping +hello +auth
//	  +select +role +cluster|slots +cluster|shards +asking
//
// Channels do not belong to a database: two clusters of nodes that share a store need
// different prefixes, even in different databases.
package redisdir
