/* QEMU TCG plugin (API version 1: QEMU 6.0 to 8.2): counts the AArch64 instructions that the guest executes, in all and
 * by class. The guest marks the ends of a region with prctl(0x4b424954, label); at each mark a line "label all dot ..."
 * goes to the file named by KBIT_COUNTS, and the counters start again from zero.
 *
 * Debian ships no qemu-plugin.h, so what is used of it is declared here (include/qemu/qemu-plugin.h of QEMU 7.2).
 * Encodings: Arm Architecture Reference Manual (DDI 0487), C4.1, "A64 instruction set encoding". */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0x4b424954u   /* "KBIT": no option of prctl */
#define SYS_PRCTL 167      /* of AArch64 */

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef struct qemu_info_t qemu_info_t;
typedef void (*syscall_cb)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_cb);

EXPORT int qemu_plugin_version = 1;

/* all; sdot, udot; widening integer multiply-add; float multiply-add; branches */
enum { ALL, DOT, WIDENING, FMA, BRANCH, CLASSES };
static uint64_t counted[CLASSES];
static FILE *out;

static int class_of(uint32_t word) {
  if ((word & 0x9f20fc00) == 0x0e009400) return DOT;      /* vector: sdot, udot */
  if ((word & 0x9f00f400) == 0x0f00e000) return DOT;      /* the same by element */
  if ((word & 0x9f200c00) == 0x0e200000) {                /* three registers, different widths */
    unsigned op = word >> 12 & 15;
    if (op == 8 || op == 10 || op == 12) return WIDENING; /* [su]mlal, [su]mlsl, [su]mull */
  }
  if ((word & 0x9f000400) == 0x0f000000) {                /* by element */
    unsigned op = word >> 12 & 15;
    if (op == 2 || op == 6 || op == 10) return WIDENING;
    if (op == 1 || op == 5) return FMA;                   /* fmla, fmls */
  }
  if ((word & 0xbfa0fc00) == 0x0e20cc00) return FMA;      /* vector fmla */
  if ((word & 0xff000000) == 0x1f000000) return FMA;      /* scalar fmadd and its kin */
  if ((word & 0x1c000000) == 0x14000000) return BRANCH;
  return ALL;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  size_t length = qemu_plugin_tb_n_insns(block);
  uint64_t found[CLASSES] = {length};
  for (size_t i = 0; i < length; i++) {
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), 4);
    int class = class_of(word);
    if (class != ALL) found[class]++;
  }
  for (int i = 0; i < CLASSES; i++)
    if (found[i]) qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &counted[i], found[i]);
}

static void on_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t option, uint64_t label, uint64_t a,
                       uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  if (number != SYS_PRCTL || (uint32_t)option != MARK) return;
  fprintf(out, "%llu", (unsigned long long)label);
  for (int i = 0; i < CLASSES; i++) fprintf(out, " %llu", (unsigned long long)counted[i]);
  fprintf(out, "\n");
  fflush(out);
  memset(counted, 0, sizeof counted);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
  const char *path = getenv("KBIT_COUNTS");
  out = path ? fopen(path, "a") : NULL;
  if (!out) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  return 0;
}
