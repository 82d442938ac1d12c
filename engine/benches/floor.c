/* The floors that the engine is measured against: the same work done by a raw
 * program with no engine in it. Prints one `name value...` line a figure.
 *
 *   floor fault UNIX|TCP CPU_CLIENT CPU_SERVER COUNT   p50 and p99 of a remote fault, ns; the
 *                                                      server has as many pages of its own
 *   floor socket CPU_RX CPU_TX MIB                     bytes/s through a unix socket, 64 KiB a time
 *   floor copy CPU MIB                                 bytes/s of UFFDIO_COPY, 64 KiB a time
 *   floor both CPU_RX CPU_TX MIB                       bytes/s of the two joined: from the sender's memory
 *                                                      through a unix socket into the receiver's
 *   floor huge CPU_RX CPU_TX MIB                       the same with 2 MiB pages: one buffer of a page
 *   floor continue CPU_RX CPU_TX MIB                   the same, read into the page itself through a second
 *                                                      mapping, which UFFDIO_CONTINUE then maps
 *   floor threads CPU_RX CPU_TX MIB                    `both`, with a second thread that places
 *   floor page CPU MIB                                 seconds of one UFFDIO_COPY of so much memory
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, RUN = 65536, HUGE_PAGE = 2 << 20, REQUEST = 16, REPLY = 8 + PAGE };

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set)) die("sched_setaffinity");
}

static void all(ssize_t (*move)(int, void *, size_t), int fd, void *buf, size_t len) {
    char *at = buf;
    while (len > 0) {
        ssize_t n = move(fd, at, len);
        if (n <= 0) die("move");
        at += n;
        len -= (size_t)n;
    }
}

static ssize_t put(int fd, void *buf, size_t len) { return write(fd, buf, len); }
static ssize_t get(int fd, void *buf, size_t len) { return read(fd, buf, len); }

static void join(const char *kind, int fds[2]) {
    if (!strcmp(kind, "unix")) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds)) die("socketpair");
        return;
    }
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int one = 1, door = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(door, (struct sockaddr *)&at, len) || listen(door, 1)) die("listen");
    getsockname(door, (struct sockaddr *)&at, &len);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fds[0], (struct sockaddr *)&at, len)) die("connect");
    fds[1] = accept(door, NULL, NULL);
    setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int uffd_for(char *memory, size_t len) {
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register reg = {
        .range = {.start = (uintptr_t)memory, .len = len},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (fd < 0) die("userfaultfd");
    if (ioctl(fd, UFFDIO_API, &api)) die("UFFDIO_API");
    if (ioctl(fd, UFFDIO_REGISTER, &reg)) die("UFFDIO_REGISTER");
    return fd;
}

static char *map(size_t len) {
    char *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) die("mmap");
    madvise(memory, len, MADV_NOHUGEPAGE);
    return memory;
}

static void place(int uffd, char *to, char *from, size_t len) {
    struct uffdio_copy copy = {.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = len};
    if (ioctl(uffd, UFFDIO_COPY, &copy)) die("UFFDIO_COPY");
}

struct handler {
    int uffd, sock;
    char *memory;
};

static void *handle(void *arg) {
    struct handler *h = arg;
    static char reply[REPLY];
    struct uffd_msg msg;
    while (read(h->uffd, &msg, sizeof msg) == sizeof msg) {
        uint64_t page = msg.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
        uint64_t request[2] = {page - (uintptr_t)h->memory, PAGE};
        all(put, h->sock, request, REQUEST);
        all(get, h->sock, reply, REPLY);
        place(h->uffd, (char *)(uintptr_t)page, reply + 8, PAGE);
    }
    return NULL;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sends the pages of memory of its own that are requested, until the peer closes. */
static void serve_pages(int sock, size_t len) {
    char *memory = map(len);
    uint64_t request[2], head = 0;
    memset(memory, 7, len);
    while (read(sock, request, REQUEST) == REQUEST) {
        struct iovec reply[2] = {{&head, sizeof head}, {memory + request[0], PAGE}};
        if (writev(sock, reply, 2) != REPLY) die("writev");
    }
    _exit(0);
}

static void fault(const char *kind, int client, int server, size_t count) {
    int fds[2];
    join(kind, fds);
    if (fork() == 0) {
        close(fds[0]);
        pin(server);
        serve_pages(fds[1], count * PAGE);
    }
    close(fds[1]);
    pin(client);
    char *memory = map(count * PAGE);
    struct handler h = {uffd_for(memory, count * PAGE), fds[0], memory};
    pthread_t thread;
    /* Wait until the server has its memory. */
    uint64_t first[2] = {0, PAGE};
    char page[REPLY];
    all(put, fds[0], first, REQUEST);
    all(get, fds[0], page, REPLY);
    pthread_create(&thread, NULL, handle, &h);
    uint64_t *took = calloc(count, sizeof *took);
    for (size_t i = 0; i < count; i++) {
        /* A permutation, so that neighbours do not follow each other. */
        size_t page = (i * 7919) % count;
        uint64_t start = now();
        *(volatile char *)(memory + page * PAGE);
        took[i] = now() - start;
    }
    qsort(took, count, sizeof *took, by_value);
    printf("fault %llu %llu\n", (unsigned long long)took[count / 2],
           (unsigned long long)took[count - 1 - count / 100]);
    fflush(stdout);
    shutdown(fds[0], SHUT_RDWR);
    _exit(0);
}

static void socket_copy(int rx, int tx, size_t mib) {
    int fds[2];
    join("unix", fds);
    static char buf[RUN];
    memset(buf, 7, sizeof buf);
    size_t total = mib << 20;
    if (fork() == 0) {
        pin(tx);
        for (size_t done = 0; done < total; done += RUN) all(put, fds[1], buf, RUN);
        _exit(0);
    }
    pin(rx);
    all(get, fds[0], buf, RUN);
    uint64_t start = now();
    for (size_t done = RUN; done < total; done += RUN) all(get, fds[0], buf, RUN);
    double seconds = (double)(now() - start) / 1e9;
    printf("socket %.0f\n", (double)(total - RUN) / seconds);
}

static void copy(int cpu, size_t mib) {
    pin(cpu);
    size_t total = mib << 20;
    char *from = map(RUN), *memory = map(total);
    memset(from, 7, RUN);
    int uffd = uffd_for(memory, total);
    for (int round = 0; round < 2; round++) {
        uint64_t start = now();
        for (size_t at = 0; at < total; at += RUN) place(uffd, memory + at, from, RUN);
        double seconds = (double)(now() - start) / 1e9;
        if (round) printf("copy %.0f\n", (double)total / seconds);
        madvise(memory, total, MADV_DONTNEED);
    }
}

/* The receiving end of a sweep from another process: 4 KiB pages or 2 MiB pages. */
struct sweep {
    int sock, uffd;
    char *memory, *alias;
    size_t total;
};

/* Maps 2 MiB pages twice; only the first mapping is registered. */
static int huge_uffd(struct sweep *s) {
    int fd = (int)syscall(SYS_memfd_create, "floor", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
    if (fd < 0 || ftruncate(fd, (off_t)s->total)) die("memfd_create");
    s->memory = mmap(NULL, s->total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    s->alias = mmap(NULL, s->total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s->memory == MAP_FAILED || s->alias == MAP_FAILED) die("2 MiB pages");
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MINOR_HUGETLBFS};
    struct uffdio_register reg = {
        .range = {.start = (uintptr_t)s->memory, .len = s->total},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
    };
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api)) die("UFFDIO_API");
    if (ioctl(uffd, UFFDIO_REGISTER, &reg)) die("UFFDIO_REGISTER");
    return uffd;
}

static void place_each(struct sweep *s, size_t run, char *buf) {
    for (size_t at = 0; at < s->total; at += run) {
        all(get, s->sock, buf, run);
        place(s->uffd, s->memory + at, buf, run);
    }
}

static void continue_each(struct sweep *s) {
    for (size_t at = 0; at < s->total; at += HUGE_PAGE) {
        all(get, s->sock, s->alias + at, HUGE_PAGE);
        struct uffdio_continue page = {.range = {.start = (uintptr_t)s->memory + at, .len = HUGE_PAGE}};
        if (ioctl(s->uffd, UFFDIO_CONTINUE, &page)) die("UFFDIO_CONTINUE");
    }
}

/* A ring of runs between the thread that reads and the thread that places. */
enum { SLOTS = 32 };
static struct {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    size_t read, placed;
    char *slots;
} ring = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, NULL};

static void step(size_t *count) {
    pthread_mutex_lock(&ring.lock);
    ++*count;
    pthread_cond_signal(&ring.moved);
    pthread_mutex_unlock(&ring.lock);
}

static void *placer(void *arg) {
    struct sweep *s = arg;
    for (size_t at = 0; at < s->total; at += RUN) {
        pthread_mutex_lock(&ring.lock);
        while (ring.read == ring.placed) pthread_cond_wait(&ring.moved, &ring.lock);
        pthread_mutex_unlock(&ring.lock);
        place(s->uffd, s->memory + at, ring.slots + at / RUN % SLOTS * RUN, RUN);
        step(&ring.placed);
    }
    return NULL;
}

static void threads_each(struct sweep *s) {
    pthread_t thread;
    ring.read = ring.placed = 0;
    pthread_create(&thread, NULL, placer, s);
    cpu_set_t any;
    CPU_ZERO(&any);
    for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) CPU_SET(cpu, &any);
    pthread_setaffinity_np(thread, sizeof any, &any);
    for (size_t at = 0; at < s->total; at += RUN) {
        pthread_mutex_lock(&ring.lock);
        while (ring.read - ring.placed == SLOTS) pthread_cond_wait(&ring.moved, &ring.lock);
        pthread_mutex_unlock(&ring.lock);
        all(get, s->sock, ring.slots + at / RUN % SLOTS * RUN, RUN);
        step(&ring.read);
    }
    pthread_join(thread, NULL);
}

static void sweep(const char *name, int rx, int tx, size_t mib) {
    int fds[2], queue = 4 << 20, is_huge = !strcmp(name, "huge") || !strcmp(name, "continue");
    size_t total = mib << 20;
    enum { ROUNDS = 2 };
    char go = 0;
    join("unix", fds);
    if (setsockopt(fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &queue, sizeof queue))
        setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &queue, sizeof queue);
    if (fork() == 0) {
        pin(tx);
        char *from = map(total);
        memset(from, 7, total);
        for (int round = 0; round < ROUNDS; round++) {
            all(get, fds[1], &go, 1);
            for (size_t at = 0; at < total; at += RUN) all(put, fds[1], from + at, RUN);
        }
        _exit(0);
    }
    pin(rx);
    char *buf = map(HUGE_PAGE);
    memset(buf, 1, HUGE_PAGE);
    ring.slots = buf;
    struct sweep s = {.sock = fds[0], .total = total};
    if (is_huge) {
        s.uffd = huge_uffd(&s);
    } else {
        s.memory = map(total);
        s.uffd = uffd_for(s.memory, total);
    }
    for (int round = 0; round < ROUNDS; round++) {
        all(put, fds[0], &go, 1);
        uint64_t start = now();
        if (!strcmp(name, "continue"))
            continue_each(&s);
        else if (!strcmp(name, "threads"))
            threads_each(&s);
        else
            place_each(&s, is_huge ? HUGE_PAGE : RUN, buf);
        double seconds = (double)(now() - start) / 1e9;
        if (round) printf("%s %.0f\n", name, (double)total / seconds);
        madvise(s.memory, total, is_huge ? MADV_REMOVE : MADV_DONTNEED);
    }
}

static void page(int cpu, size_t mib) {
    pin(cpu);
    struct sweep s = {.total = mib << 20};
    s.uffd = huge_uffd(&s);
    char *from = map(s.total);
    memset(from, 7, s.total);
    for (int round = 0; round < 2; round++) {
        uint64_t start = now();
        place(s.uffd, s.memory, from, s.total);
        if (round) printf("page %.6f\n", (double)(now() - start) / 1e9);
        madvise(s.memory, s.total, MADV_REMOVE);
    }
}

int main(int argc, char **argv) {
    if (argc == 6 && !strcmp(argv[1], "fault"))
        fault(argv[2], atoi(argv[3]), atoi(argv[4]), strtoul(argv[5], NULL, 10));
    else if (argc == 5 && !strcmp(argv[1], "socket"))
        socket_copy(atoi(argv[2]), atoi(argv[3]), strtoul(argv[4], NULL, 10));
    else if (argc == 4 && !strcmp(argv[1], "copy"))
        copy(atoi(argv[2]), strtoul(argv[3], NULL, 10));
    else if (argc == 5)
        sweep(argv[1], atoi(argv[2]), atoi(argv[3]), strtoul(argv[4], NULL, 10));
    else if (argc == 4 && !strcmp(argv[1], "page"))
        page(atoi(argv[2]), strtoul(argv[3], NULL, 10));
    else
        return fprintf(stderr, "usage: floor fault|socket|copy|both|huge|continue|threads|page ...\n"), 2;
    return 0;
}
