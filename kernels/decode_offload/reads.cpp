// Reads of an open file that are all asked for before any is waited for: a disk answers many of them in little
// more time than one. By the system's own calls, for which no library is needed.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#if defined(__linux__)
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr long DEPTH = 256;                // reads that are under way at a time
constexpr std::int64_t LONGEST = 1 << 19;  // bytes of one; neighbours on the disk are read together

}  // namespace

#if defined(__linux__)

// A queue of reads, or minus what is wrong.
extern "C" std::int64_t open_queue() {
  aio_context_t queue = 0;
  return syscall(SYS_io_setup, DEPTH, &queue) < 0 ? -errno : std::int64_t(queue);
}

// Of a file, `count` parts of `size` bytes, to one place after the other. 0, or minus what is wrong. None is under
// way when it returns.
extern "C" std::int64_t read_parts(std::int64_t queue, std::int64_t file, const std::int64_t* starts,
                                   std::int64_t count, std::int64_t size, char* to) {
  std::vector<iocb> reads;
  for (std::int64_t at = 0, last; at < count; at = last) {
    for (last = at + 1; last < count && starts[last] == starts[last - 1] + size;) ++last;
    const std::int64_t bytes = (last - at) * size;
    for (std::int64_t done = 0; done < bytes; done += LONGEST) {
      iocb one{};
      one.aio_lio_opcode = IOCB_CMD_PREAD;
      one.aio_fildes = std::uint32_t(file);
      one.aio_buf = reinterpret_cast<std::uint64_t>(to + at * size + done);
      one.aio_nbytes = one.aio_data = std::uint64_t(std::min(LONGEST, bytes - done));
      one.aio_offset = starts[at] + done;
      reads.push_back(one);
    }
  }
  const long all = long(reads.size());
  std::vector<iocb*> asked(reads.size());
  for (long at = 0; at < all; ++at) asked[at] = &reads[at];
  io_event ends[DEPTH];
  std::int64_t wrong = 0;
  for (long sent = 0, ended = 0; ended < all;) {
    if (sent < all && sent - ended < DEPTH && !wrong) {
      const long room = DEPTH - (sent - ended), left = all - sent;
      const long more =
          syscall(SYS_io_submit, aio_context_t(queue), room < left ? room : left, asked.data() + sent);
      if (more < 0 && errno != EAGAIN) wrong = -errno;
      if (more > 0) sent += more;
    }
    if (sent == ended) return wrong ? wrong : -EAGAIN;  // nothing is under way that could still write
    const long came =
        syscall(SYS_io_getevents, aio_context_t(queue), 1L, long(DEPTH), ends, static_cast<void*>(nullptr));
    for (long at = 0; at < came; ++at)
      if (std::int64_t(ends[at].res) != std::int64_t(ends[at].data))
        wrong = ends[at].res < 0 ? ends[at].res : -EIO;
    if (came > 0) ended += came;
    if (came < 0 && errno != EINTR) {  // what became of them is never told: closing the queue waits for all
      wrong = -errno;
      syscall(SYS_io_destroy, aio_context_t(queue));
      return wrong;
    }
  }
  return wrong;
}

#endif
