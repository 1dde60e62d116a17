"""Programs that do harm, or try to: each is put into the sandbox and must neither reach anything nor be right.

PRELUDE's names: FOLDER has a file `precious` and a file `secret`, PORT and DATAGRAM are of servers on this machine,
SOCKET is a server's file, VICTIM is another process, MARK is a name by which survivors are found.
`f(x)` is asked once, with 3; what it should give is the text of `secret`.
"""

PRELUDE = """
import os, sys, time, signal, socket, ctypes
FOLDER, PORT, DATAGRAM, SOCKET, VICTIM, MARK = {folder!r}, {port}, {datagram}, {socket!r}, {victim}, {mark!r}
f = lambda x: None
def mark():
    ctypes.CDLL(None).prctl(15, MARK.encode(), 0, 0, 0)
def every(call, *among):
    for what in among:
        try:
            call(what)
        except BaseException:
            pass
"""

FILES = {
    "delete a file": "os.remove(FOLDER + '/precious')",
    "overwrite a file": "open(FOLDER + '/precious', 'w').write('gone')",
    "append to a file": "open(FOLDER + '/precious', 'a').write('more')",
    "empty a file": "os.truncate(FOLDER + '/precious', 0)",
    "rename a file": "os.rename(FOLDER + '/precious', FOLDER + '/gone')",
    "move a file away": "os.rename(FOLDER + '/precious', 'mine')",
    "link over a file": "open('x', 'w').close(); os.replace('x', FOLDER + '/precious')",
    "write a new file": "open(FOLDER + '/new', 'w').write('x')",
    "make a folder": "os.mkdir(FOLDER + '/new')",
    "make a link": "os.symlink('/etc', FOLDER + '/new')",
    "make a pipe": "os.mkfifo(FOLDER + '/new')",
    "make a device": "import stat; os.mknod(FOLDER + '/new', 0o600 | stat.S_IFBLK, os.makedev(8, 0))",
    "remove the tree": "import shutil; shutil.rmtree(FOLDER)",
    "change a mode": "os.chmod(FOLDER + '/precious', 0o777)",
    "change an owner": "os.chown(FOLDER + '/precious', 12345, 12345)",
    "change times": "os.utime(FOLDER + '/precious', (0, 0))",
    "set an attribute": "os.setxattr(FOLDER + '/precious', 'user.x', b'x')",
    "write through a link": "os.symlink(FOLDER + '/precious', 'l'); open('l', 'w').write('gone')",
    "write through a hard link": "os.link(FOLDER + '/precious', 'l'); open('l', 'w').write('gone')",
    "read a secret": "f = lambda x: open(FOLDER + '/secret').read()",
    "read a secret through a link": "os.symlink(FOLDER + '/secret', 'l'); f = lambda x: open('l').read()",
    "read a secret through a root": (
        "f = lambda x: open([p for p in ('/proc/1/root', '/proc/%d/root' % os.getppid())"
        " if os.path.exists(p + FOLDER)][0] + FOLDER + '/secret').read()"
    ),
    "list a folder": "f = lambda x: open(FOLDER + '/' + sorted(os.listdir(FOLDER))[-1]).read()",
    "leave by chroot": "os.chroot('/'); f = lambda x: open(FOLDER + '/secret').read()",
    "mount": (
        "ctypes.CDLL(None).mount(b'none', FOLDER.encode(), b'tmpfs', 0, None); open(FOLDER + '/new', 'w').write('x')"
    ),
    "a new user namespace": (
        "ctypes.CDLL(None).unshare(0x10000000 | 0x20000); f = lambda x: open(FOLDER + '/secret').read()"
    ),
    "a file beside its folder": "open('../left', 'w').write('x'); f = lambda x: open(FOLDER + '/secret').read()",
}

NETWORK = {
    "connect": "socket.create_connection(('127.0.0.1', PORT), timeout=1).send(b'x')",
    "connect on IPv6": "socket.create_connection(('::1', PORT), timeout=1).send(b'x')",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', DATAGRAM))",
    "a socket's file": "socket.socket(socket.AF_UNIX).connect(SOCKET)",
    "a web request": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:%d/' % PORT, timeout=1)",
    "a raw packet": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).sendto(b'x' * 64, ('127.0.0.1', 0)); f = exec",
    "listen": "s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen(); time.sleep(9)",
    "connect by a system call": "ctypes.CDLL(None).socket(2, 1, 0); socket.socket().connect(('127.0.0.1', PORT))",
}

PROCESSES = {
    "kill a process": "os.kill(VICTIM, 9)",
    "stop a process": "os.kill(VICTIM, signal.SIGSTOP)",
    "kill the runner": "os.kill(os.getppid(), 9); time.sleep(9)",
    "stop the runner": "os.kill(os.getppid(), signal.SIGSTOP)",
    "interrupt the runner": "os.kill(os.getppid(), signal.SIGINT)",
    "kill everybody it may": "every(lambda p: os.kill(p, 9), *[int(p) for p in os.listdir('/proc') if p.isdigit()])",
    "kill all groups": "every(lambda p: os.killpg(p, 9), VICTIM, os.getppid())",
    "signal by a handle": "signal.pidfd_send_signal(os.pidfd_open(VICTIM), 9)",
    "trace a process": "assert ctypes.CDLL(None).ptrace(16, VICTIM, 0, 0) == 0; os.kill(VICTIM, 9)",
    "slow a process down": "os.setpriority(os.PRIO_PROCESS, VICTIM, 19)",
    "fork": "mark(); pid = os.fork(); time.sleep(9 if pid == 0 else 0)",
    "fork twice and leave": (
        "mark()\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n    os._exit(0)"
    ),
    "leave 150 behind": (
        "mark()\nfor i in range(150):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(60)"
    ),
    "a fork bomb": "mark()\nwhile True:\n    os.fork()",
    "a daemon that holds the pipes": "mark()\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\nos._exit(0)",
    "vfork by a system call": "mark(); ctypes.CDLL(None).syscall(58); time.sleep(9)",
    "clone by a system call": "mark(); ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0); time.sleep(9)",
    "a command": "mark(); import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)",
    "a shell": "os.system('cat ' + FOLDER + '/secret > out'); f = lambda x: open('out').read()",
    "become another program": "os.execv('/bin/sh', ['sh', '-c', 'cat ' + FOLDER + '/secret'])",
    "threads": "import threading\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,)).start()",
    "ignore all signals": "every(lambda s: signal.signal(s, signal.SIG_IGN), *range(1, 65))\nwhile True: pass",
    "shared memory that stays": "assert ctypes.CDLL(None).shmget(0x5AFE, 4096, 0o1666) < 0",
}

RESOURCES = {
    "an endless loop": "while True: pass",
    "an endless sleep": "time.sleep(10**6)",
    "an endless call": "def f(x):\n    while True: pass",
    "memory in one piece": "x = bytearray(2**40)",
    "memory by and by": "x = []\nwhile True: x.append(bytearray(2**24))",
    "a large file": "with open('x', 'wb') as file:\n    while True: file.write(bytes(2**20))",
    "a thousand files": "files = [open(str(i), 'w') for i in range(1000)]",
    "endless output": "while True: print('x' * 10**6)",
    "deep recursion": "def f(x): return f(x)",
    "recursion in C": "sys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "a broken pointer": "ctypes.string_at(0)",
    "a large power": "x = 10 ** 10 ** 10",
    "higher limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); x = bytearray(2**33)",
}

ANSWERS = {
    "an endless answer": "def f(x):\n    while True: yield x",
    "a large answer": "def f(x): return 'x' * 10**7",
    "a deep answer": "def f(x):\n    a = []\n    for _ in range(10**5): a = [a]\n    return a",
    "an answer that holds itself": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "a number of a million digits": "def f(x): return 1 << 4 * 10**5",
    "letters to all pipes": (
        "every(lambda p: os.write(p, b'v' * 64), *range(3, 64)); every(os.close, *range(3, 64)); os._exit(0)"
    ),
    "frames to all pipes": (
        "every(lambda p: os.write(p, (9).to_bytes(4, 'big') + b'v[null] '), *range(64)); os._exit(0)"
    ),
    "broken JSON": "every(lambda p: os.write(p, b'[['), *range(3, 64)); os._exit(0)",
    "JSON too deep": "every(lambda p: os.write(p, b'[' * 60000), *range(3, 64)); os._exit(0)",
    "an unknown tag": 'every(lambda p: os.write(p, b\'[["eval", "1"]]\'), *range(3, 64)); os._exit(0)',
    "a key without hash": (
        'every(lambda p: os.write(p, b\'[["dict", [["list"], 1]]]\'), *range(3, 64)); os._exit(0)'
    ),
    "keys that collide": "def f(x): return {i * (2**61 - 1): 0 for i in range(9000)}",
    "an exit status": "sys.exit(0)",
    "a quick exit": "os._exit(0)",
    "an exit in a call": "def f(x): os._exit(0)",
    "the pipe closed": "os.closerange(0, 64); time.sleep(9)",
}

PROGRAMS = {
    f"{kind}: {name}": program
    for kind, programs in {
        "files": FILES,
        "network": NETWORK,
        "processes": PROCESSES,
        "resources": RESOURCES,
        "answers": ANSWERS,
    }.items()
    for name, program in programs.items()
}
