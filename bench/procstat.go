package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of times in /proc/<pid>/stat. Linux reports it as 100
// per second on every architecture that Go supports.
const clockTick = 10 * time.Millisecond

// cpuTime returns what the processes have used so far, in user mode and in the
// kernel.
func cpuTime(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("a measured process has ended: %w", err)
		}
		t, err := parseStat(stat)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		sum += t
	}
	return sum, nil
}

// parseStat returns utime + stime of a line of /proc/<pid>/stat, see proc(5).
func parseStat(stat []byte) (time.Duration, error) {
	// The second field is the name in parentheses, which may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%d fields after the name: too few", len(fields))
	}
	var ticks int64
	for _, field := range fields[11:13] { // fields 14 and 15 of the line
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// residentMemory returns the RSS of a process in bytes.
func residentMemory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("a measured process has ended: %w", err)
	}
	_, rest, ok := bytes.Cut(status, []byte("VmRSS:"))
	fields := bytes.Fields(rest)
	if !ok || len(fields) == 0 {
		return 0, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
	}
	kib, err := strconv.ParseFloat(string(fields[0]), 64)
	return kib * 1024, err
}
