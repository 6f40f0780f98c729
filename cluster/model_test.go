package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// TestModel lets three nodes, their clients and their viewers do what happens to them in
// an order that a seed decides, and looks after each step whether what the nodes say is
// true. The rules are at the functions that test them:
//
//   - A session that is the newest of its id is never superseded: see [model.superseded].
//   - A request is delivered to one session at most, which has to be in service on its
//     node; and a node does not say "absent" of an id that is held and announced, nor
//     "unknown" of one that it knows: see [model.wrongAbsent] and [model.wrongUnknown].
//   - When all faults are over and some minutes have passed, the newest session of each
//     id is the only one, and every node finds it: see [model.settled].
//
// WST_SEED=n runs the one seed, WST_LONG=1 runs many. Of a seed that fails, the history
// is printed. It is the same in each run, but for what happens in the same moment.
func TestModel(t *testing.T) {
	first, seeds := uint64(1), uint64(300)
	switch {
	case os.Getenv("WST_SEED") != "":
		n, err := strconv.ParseUint(os.Getenv("WST_SEED"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, seeds = n, 1
	case os.Getenv("WST_LONG") != "":
		seeds = 20_000
	case raceEnabled:
		seeds = 20
	}
	var total modelCounts
	for seed := first; seed < first+seeds && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, seed)
			m.run()
			m.counts.sessions = len(m.sessions)
			total.add(m.counts)
			if t.Failed() {
				t.Logf("seed %d:", seed)
				for _, line := range m.history {
					t.Log(line)
				}
			}
		})
	}
	t.Logf("%d seeds: %+v", seeds, total)
}

const (
	modelSteps = 60
	modelIDs   = 3
)

type modelCounts struct{ sessions, requests, delivered, absent, unknown, moved int }

func (c *modelCounts) add(o modelCounts) {
	c.sessions += o.sessions
	c.requests += o.requests
	c.delivered += o.delivered
	c.absent += o.absent
	c.unknown += o.unknown
	c.moved += o.moved
}

// model is the cluster of one seed.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	store   *cluster.Memory
	started time.Time
	counts  modelCounts

	saved  *cluster.Snapshot // of a replica that is behind
	lost   time.Time         // when the store has last lost something
	apart  map[[2]string]bool
	nodes  []*modelNode
	client [modelIDs]modelClient

	mu       sync.Mutex
	sessions []*modelSession // all that there have been
	found    map[foundKey]time.Time

	logMu   sync.Mutex
	history []string
}

// foundKey is a session that a node has found, which nothing has happened to since.
type foundKey struct {
	by *modelNode
	at *modelSession
}

// modelNode is a process of a node.
type modelNode struct {
	*testNode
	known    time.Time // when the store has first had its record
	draining bool
	faulty   bool
	broke    time.Time // since when it is, or was the last time
	fault    time.Time // when the line was last faulty, if it is not now

	mu     sync.Mutex // held while sessions come and go, as by the service's registry
	active map[string]*modelSession
}

// modelClient is who registers an id.
type modelClient struct {
	process int // the number of the instance
	attempt uint64
	last    time.Time // when it has last registered
}

// modelSession is a registration.
type modelSession struct {
	id      string
	process int
	attempt uint64
	node    *modelNode

	// Guarded by model.mu.
	open   bool      // the node serves it
	stored time.Time // since when the store has its entry; zero: it has not
}

func (s *modelSession) String() string {
	return fmt.Sprintf("%s process %d attempt %d on %s", s.id, s.process, s.attempt, s.node.Name())
}

func (s *modelSession) newerThan(o *modelSession) bool {
	return s.process > o.process || s.process == o.process && s.attempt > o.attempt
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), store: new(cluster.Memory), started: time.Now(),
		apart: make(map[[2]string]bool), found: make(map[foundKey]time.Time),
	}
	for _, name := range []string{"a", "b", "c"} {
		m.nodes = append(m.nodes, m.boot(name))
	}
	elapse(time.Second)
	return m
}

func (m *model) log(format string, args ...any) {
	m.logMu.Lock()
	defer m.logMu.Unlock()
	m.history = append(m.history, fmt.Sprintf("%10.3fs ", time.Since(m.started).Seconds())+fmt.Sprintf(format, args...))
}

func (m *model) errorf(format string, args ...any) {
	m.t.Helper()
	m.log("WRONG: "+format, args...)
	m.t.Errorf(format, args...)
}

// boot starts a process of the node of that name, whose clock is wrong by up to a second.
func (m *model) boot(name string) *modelNode {
	n := &modelNode{active: make(map[string]*modelSession)}
	skew := time.Duration(m.rng.Int64N(2000)-1000) * time.Millisecond
	seed := m.rng.Uint64()
	jitter := rand.New(rand.NewPCG(seed, 0))
	n.testNode = startNode(m.t, m.store, name, func(c *cluster.MemberConfig) {
		c.Superseded = func(id string) { m.superseded(n, id) }
		c.Changed, c.NodeChanged, c.Trouble = nil, nil, nil
	}, func(t *testNode) {
		n.testNode = t
		t.SetClock(func() time.Time { return time.Now().Add(skew) })
		t.SetJitter(func(d time.Duration) time.Duration { return time.Duration(jitter.Int64N(int64(d))) })
		t.line.jitter = rand.New(rand.NewPCG(seed, 1))
		t.line.stored = m.stored
	})
	return n
}

// run is the life of the cluster.
func (m *model) run() {
	steps := []struct {
		weight int
		do     func()
	}{
		{12, m.connect}, {2, m.connectLate}, {2, m.restartClient}, {4, m.disconnect},
		{30, func() { m.request() }}, {12, m.pause}, {1, m.pauseLong},
		{1, m.flush}, {1, m.save}, {1, m.failOver},
		{4, m.breakLine}, {5, m.mendLine}, {3, m.breakPair}, {3, m.mendPair},
		{1, m.drain}, {2, m.restart}, {2, m.kill},
	}
	sum := 0
	for _, s := range steps {
		sum += s.weight
	}
	for range modelSteps {
		n := m.rng.IntN(sum)
		for _, s := range steps {
			if n -= s.weight; n < 0 {
				s.do()
				break
			}
		}
		synctest.Wait()
		m.look()
		if m.t.Failed() {
			return
		}
	}
	m.settled()
}

func (m *model) anyNode() *modelNode { return m.nodes[m.rng.IntN(len(m.nodes))] }

// anyOther returns a node that is not n.
func (m *model) anyOther(n *modelNode) *modelNode {
	for {
		if o := m.anyNode(); o != n {
			return o
		}
	}
}

// register makes a session of the client of id on n, as its attempt says.
func (m *model) register(k int, n *modelNode, attempt uint64) {
	c := &m.client[k]
	s := &modelSession{id: fmt.Sprint("id", k), process: c.process, attempt: attempt, node: n, open: true}
	m.log("register %v", s)
	n.mu.Lock()
	defer n.mu.Unlock()
	m.mu.Lock()
	if before := n.active[s.id]; before != nil {
		before.open = false // the node itself replaces it
	}
	m.sessions = append(m.sessions, s)
	m.changedLocked(s.id)
	m.mu.Unlock()
	n.active[s.id] = s
	c.last = time.Now()
	n.Register(s.id, from(fmt.Sprint("process", s.process), attempt))
}

func (m *model) connect() {
	n := m.anyNode()
	if n.draining {
		return
	}
	k := m.rng.IntN(modelIDs)
	m.client[k].attempt++
	m.register(k, n, m.client[k].attempt)
}

// connectLate makes two attempts, of which the second arrives first.
func (m *model) connectLate() {
	n := m.anyNode()
	k := m.rng.IntN(modelIDs)
	c := &m.client[k]
	c.attempt += 2
	m.register(k, n, c.attempt)
	if m.rng.IntN(2) == 0 {
		m.pause()
	}
	m.register(k, m.anyOther(n), c.attempt-1)
}

// restartClient lets a client begin anew: the order of its sessions is by the clocks of
// the nodes.
func (m *model) restartClient() {
	k := m.rng.IntN(modelIDs)
	if d := 3*time.Second - time.Since(m.client[k].last); d > 0 {
		m.elapse(d)
	}
	m.client[k] = modelClient{process: m.client[k].process + 1}
	m.connect()
}

// end ends s, as the node sees it when the client has gone.
func (m *model) end(s *modelSession) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	m.mu.Lock()
	s.open = false
	m.changedLocked(s.id)
	m.mu.Unlock()
	if s.node.active[s.id] == s {
		delete(s.node.active, s.id)
		s.node.Unregister(s.id)
	}
}

// disconnect ends one of the sessions that there are.
func (m *model) disconnect() {
	var open []*modelSession
	m.mu.Lock()
	for _, s := range m.sessions {
		if s.open {
			open = append(open, s)
		}
	}
	m.mu.Unlock()
	if len(open) > 0 {
		s := open[m.rng.IntN(len(open))]
		m.log("disconnect %v", s)
		m.end(s)
	}
}

func (m *model) elapse(d time.Duration) {
	for d > 0 {
		step := min(d, 5*time.Second)
		elapse(step)
		d -= step
		m.look()
	}
}

func (m *model) pause() {
	d := []time.Duration{time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second, 6 * time.Second, 20 * time.Second}[m.rng.IntN(6)]
	d += time.Duration(m.rng.Int64N(int64(d)))
	m.log("%v pass", d)
	m.elapse(d)
}

func (m *model) pauseLong() {
	d := []time.Duration{time.Minute, 3 * time.Minute, 11 * time.Minute}[m.rng.IntN(3)]
	m.log("%v pass", d)
	m.elapse(d)
}

func (m *model) flush() {
	m.log("flush")
	m.store.Flush()
	m.lost = time.Now()
}

// save makes a replica that hears no more, and failOver puts it in charge, which ends
// all connections.
func (m *model) save() {
	s := m.store.Snapshot()
	m.saved = &s
}

func (m *model) failOver() {
	if m.saved == nil {
		return
	}
	m.log("fail-over")
	m.store.Restore(*m.saved)
	m.saved = nil
	m.lost = time.Now()
	m.mu.Lock()
	clear(m.found) // the replica may name another node
	m.mu.Unlock()
	for _, n := range m.nodes {
		n.line.set(func(l *line) { l.reset = true })
	}
}

func (m *model) breakLine() {
	n := m.anyNode()
	how := []string{"cut", "dead", "deaf", "late", "slow", "very slow"}[m.rng.IntN(6)]
	m.log("%s's line to the store is %s", n.Name(), how)
	if !n.faulty {
		n.faulty, n.broke = true, time.Now()
	}
	n.line.set(func(l *line) {
		switch how {
		case "cut":
			l.cut = true
		case "dead":
			l.dead = true
		case "deaf":
			l.deaf = true
		case "late":
			l.late = true
		case "slow":
			l.delay = 100 * time.Millisecond
		case "very slow":
			l.delay = time.Second
		}
	})
}

func (m *model) mendLine() {
	n := m.anyNode()
	if n.faulty {
		m.log("%s's line to the store is well", n.Name())
		m.mend(n)
	}
}

func (m *model) mend(n *modelNode) {
	if n.faulty {
		n.faulty, n.fault = false, time.Now()
		n.line.heal()
	}
}

func pair(a, b *modelNode) [2]string {
	if a.Name() < b.Name() {
		return [2]string{a.Name(), b.Name()}
	}
	return [2]string{b.Name(), a.Name()}
}

func (m *model) breakPair() {
	a := m.anyNode()
	b := m.anyOther(a)
	m.log("%s and %s are cut from each other", a.Name(), b.Name())
	m.apart[pair(a, b)] = true
}

func (m *model) mendPair() {
	a := m.anyNode()
	b := m.anyOther(a)
	if m.apart[pair(a, b)] {
		m.log("%s and %s reach each other", a.Name(), b.Name())
	}
	delete(m.apart, pair(a, b))
}

// sessionsOn returns the sessions of n that are open.
func (m *model) sessionsOn(n *modelNode) (open []*modelSession) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		if s.open && s.node == n {
			open = append(open, s)
		}
	}
	return open
}

func (m *model) drain() {
	n := m.anyNode()
	m.log("%s drains", n.Name())
	m.drainNode(n)
}

// drainNode lets n's clients make other sessions before these end.
func (m *model) drainNode(n *modelNode) {
	n.draining = true
	n.Drain()
	open := m.sessionsOn(n)
	for _, s := range open {
		to := m.anyOther(n)
		c := &m.client[s.id[2]-'0']
		if !to.draining && c.process == s.process && c.attempt == s.attempt {
			c.attempt++
			m.register(int(s.id[2]-'0'), to, c.attempt)
		}
	}
	if m.rng.IntN(2) == 0 {
		m.pause()
	}
	for _, s := range open {
		m.end(s)
	}
}

// restart ends a node in good order, and starts it again.
func (m *model) restart() {
	i := m.rng.IntN(len(m.nodes))
	n := m.nodes[i]
	m.log("%s restarts", n.Name())
	m.drainNode(n)
	n.stop()
	if m.rng.IntN(2) == 0 {
		m.pause()
	}
	m.nodes[i] = m.boot(n.Name())
}

// kill ends a node at once, and starts it again.
func (m *model) kill() {
	i := m.rng.IntN(len(m.nodes))
	n := m.nodes[i]
	m.log("%s is killed", n.Name())
	n.line.cutOff()
	n.stop()
	for _, s := range m.sessionsOn(n) {
		m.mu.Lock()
		s.open = false
		m.changedLocked(s.id)
		m.mu.Unlock()
	}
	if m.rng.IntN(2) == 0 {
		m.pause()
	}
	m.nodes[i] = m.boot(n.Name())
}

// superseded is told by n that its session of id has to end. That is wrong unless
// a newer one has been registered: a later attempt of the same process, or a later process.
func (m *model) superseded(n *modelNode, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.active[id]
	if s == nil || n.Holds(id) {
		return // it has ended meanwhile, or another one has come
	}
	delete(n.active, id)
	m.mu.Lock()
	defer m.mu.Unlock()
	s.open = false
	m.changedLocked(id)
	m.log("superseded %v", s)
	for _, o := range m.sessions {
		if o.id == id && o.newerThan(s) {
			return
		}
	}
	m.errorf("%v was superseded, and none is newer", s)
}

var errAway = errors.New("the other node does not answer")

// hop lets from ask to for id, and returns whom it has delivered the request to.
func (m *model) hop(from *modelNode, h cluster.Holder, id string) (*modelSession, error) {
	for _, n := range m.nodes {
		if n.Boot() != h.Node.Boot || m.apart[pair(from, n)] {
			continue
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.active[id], nil
	}
	return nil, errAway
}

// request sends a request to any node, and does as the service does. It returns the session
// that has got it, if one has.
func (m *model) request() *modelSession {
	n := m.anyNode()
	return m.requestTo(n, fmt.Sprint("id", m.rng.IntN(modelIDs)))
}

// requestTo sends a request for id to n, and looks whether what n says of id is right.
func (m *model) requestTo(n *modelNode, id string) (to *modelSession) {
	m.counts.requests++
	n.mu.Lock()
	to = n.active[id]
	n.mu.Unlock()
	var deliveries []*modelSession
	if to != nil {
		deliveries = append(deliveries, to)
	}
	said := ""
	for range 2 { // once more if the node does not have it: nothing has been delivered then
		if to != nil {
			break
		}
		h, err := n.Find(context.Background(), id)
		m.look()
		switch {
		case err == cluster.ErrAbsent:
			said = "absent"
			m.counts.absent++
			if why := m.wrongAbsent(n, id); why != "" {
				m.errorf("%s says that %s is absent: %s", n.Name(), id, why)
			}
		case errors.Is(err, cluster.ErrUnknown):
			said = "unknown"
			m.counts.unknown++
			if why := m.wrongUnknown(n, id); why != "" {
				m.errorf("%s does not know where %s is: %s", n.Name(), id, why)
			}
		case err != nil:
			m.errorf("Find: %v", err)
		case h.Node.Boot == n.Boot():
			m.errorf("%s finds itself", n.Name())
		default:
			switch to, err = m.hop(n, h, id); {
			case err != nil:
				said = h.Node.Name + ", which is away"
				n.Recheck(id, h)
			case to == nil:
				said = h.Node.Name + ", which has it not"
				n.Doubt(id, h)
				m.counts.moved++
			default:
				deliveries = append(deliveries, to)
				m.knows(n, to)
			}
			continue
		}
		break
	}
	switch {
	case len(deliveries) > 1:
		m.errorf("a request for %s was delivered twice: %v", id, deliveries)
	case to != nil:
		m.counts.delivered++
		m.log("request to %s for %s: delivered to %v", n.Name(), id, to)
	default:
		m.log("request to %s for %s: %s", n.Name(), id, said)
	}
	return to
}
