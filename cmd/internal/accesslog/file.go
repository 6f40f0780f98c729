package accesslog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// File is a file that lines are appended to. It can be opened anew when something
// has moved it away, as logrotate does.
type File struct {
	path string

	mu sync.Mutex
	f  *os.File
}

// OpenFile opens the file at path, which it makes if there is none. Nobody but its
// owner and group may read it.
func OpenFile(path string) (*File, error) {
	f := &File{path: path}
	return f, f.Reopen()
}

// errPipe is why a file is no named pipe.
var errPipe = errors.New("it is a named pipe, which would hold the start up until somebody reads it: use a file")

// CheckFile returns why path cannot be the file of an access log, or nil. It makes no
// file.
func CheckFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = checkDirectory(filepath.Dir(path))
	case err == nil && info.IsDir():
		err = errors.New("it is a directory: name a file in it")
	case err == nil && info.Mode()&fs.ModeNamedPipe != 0:
		err = errPipe
	case err == nil:
		var f *os.File
		if f, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("cannot be opened: %w", err)
	}
	return nil
}

// checkDirectory returns why no file can be made in dir, or nil.
func checkDirectory(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no directory %s: make it first", dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	}
	if err := mayWrite(dir); err != nil {
		return fmt.Errorf("the service may make no file in %s: %w", dir, err)
	}
	return nil
}

// Reopen goes on with the file that is now at the path. On error the old one stays.
func (f *File) Reopen() error {
	if info, err := os.Stat(f.path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return fmt.Errorf("cannot be opened: %w", errPipe)
	}
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("cannot be opened: %w", err)
	}
	f.mu.Lock()
	old := f.f
	f.f = file
	f.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return nil
}

// Write appends p. It may wait for the disk, so a queue calls it, and Reopen and
// Close wait for it.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Write(p)
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Close()
}
