# The guest of the QEMU tests: one boot sector for a PC that fills memory, keeps
# writing to it, and checks every byte on every visit.
#
#   as --32 -o guest.o guest.S
#   ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
#
# A page of 4 KiB holds a counter (u32) and 1023 copies of a tag (u32), which is the
# page's address XOR TAG. From `base` up lie `hot` pages, then `quiet` pages. Each pass
# checks every hot page and adds one to its counter, so that all counters equal the
# number of passes, which a register holds. Quiet pages keep counter 0: they are written
# once; each pass checks the next `sweep` of them. The rest of memory is left alone, but
# for the stack, in the page below this sector.
#
# On COM1: `R` memory is filled, `.` one pass is done, `+` all quiet pages were checked
# once more. A wrong counter or tag prints `C` or `T`, the address of the wrong word, the
# word, and halts forever.

        .set    TAG, 0x5a5a5a5a
        .set    COM1, 0x3f8

        .code16
        .globl  _start
_start: jmp     begin
        .balign 4, 0

# Patched by the test: little-endian u32 each, from byte 4 of the sector on.
base:   .long   0x100000        # address of the first page
hot:    .long   1               # pages written on every pass, at least 1
quiet:  .long   1               # pages written once, at least 1
sweep:  .long   1               # quiet pages checked per pass
stride: .long   1               # pages from one visit to the next, no common factor with `hot`
page_spin:
        .long   0               # turns of an empty loop after each hot page
pass_spin:
        .long   0               # turns of an empty loop after each pass

begin:  cli
        xorw    %ax, %ax
        movw    %ax, %ds
        inb     $0x92, %al      # address line 20, should the BIOS have left it off
        orb     $2, %al
        outb    %al, $0x92
        lgdtl   gdt_register
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $main

        .code32
main:   movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $_start, %esp
        cld
        movw    $COM1 + 3, %dx  # 8 bits, no parity; the data register is at COM1
        movb    $3, %al
        outb    %al, %dx

        movl    base, %edi
        movl    hot, %edx
        addl    quiet, %edx
fill:   movl    %edi, %ebx
        xorl    $TAG, %ebx
        xorl    %eax, %eax
        stosl
        movl    %ebx, %eax
        movl    $1023, %ecx
        rep stosl
        decl    %edx
        jnz     fill
        movb    $'R', %al
        call    put

        xorl    %ebp, %ebp      # passes done
        xorl    %ebx, %ebx      # the next quiet page to check
pass:   xorl    %esi, %esi      # hot page
        movl    hot, %edx       # hot pages left in this pass
visit:  movl    %ebp, %eax
        movl    %esi, %edi
        call    check
        incl    -4096(%edi)
        movl    page_spin, %ecx
        call    spin
        addl    stride, %esi
        cmpl    hot, %esi
        jb      1f
        subl    hot, %esi
1:      decl    %edx
        jnz     visit
        incl    %ebp

        movl    sweep, %edx
2:      decl    %edx
        js      3f
        xorl    %eax, %eax
        movl    %ebx, %edi
        addl    hot, %edi
        call    check
        incl    %ebx
        cmpl    quiet, %ebx
        jb      2b
        xorl    %ebx, %ebx
        movb    $'+', %al
        call    put
        jmp     2b

3:      movb    $'.', %al
        call    put
        movl    pass_spin, %ecx
        call    spin
        jmp     pass

# Checks page number EDI, whose counter must be EAX. Leaves EDI behind the page's last byte.
check:  shll    $12, %edi
        addl    base, %edi
        scasl
        movb    $'C', %al
        jne     wrong
        leal    -4(%edi), %eax
        xorl    $TAG, %eax
        movl    $1023, %ecx
        repe scasl
        movb    $'T', %al
        jne     wrong
        ret

# Prints AL, EDI - 4, the word there, and halts.
wrong:  call    put
        leal    -4(%edi), %ebx
        call    hex
        movl    -4(%edi), %ebx
        call    hex
        movb    $'\n', %al
        call    put
4:      hlt
        jmp     4b

# Prints a space and EBX as eight hexadecimal digits.
hex:    movb    $' ', %al
        call    put
        movl    $8, %ecx
5:      roll    $4, %ebx
        movb    %bl, %al
        andb    $15, %al
        addb    $'0', %al
        cmpb    $'9', %al
        jbe     6f
        addb    $'a' - '9' - 1, %al
6:      call    put
        loop    5b
        ret

# Turns an empty loop ECX times.
spin:   jecxz   8f
7:      loop    7b
8:      ret

# Prints AL as soon as the port takes it.
put:    pushal
        movb    %al, %ah
        movw    $COM1 + 5, %dx
9:      inb     %dx, %al
        testb   $0x20, %al
        jz      9b
        movb    %ah, %al
        movw    $COM1, %dx
        outb    %al, %dx
        popal
        ret

        .balign 8, 0
gdt:    .quad   0                       # none
        .quad   0x00cf9a000000ffff      # 8: code, 4 GiB
        .quad   0x00cf92000000ffff      # 16: data, 4 GiB
gdt_register:
        .word   . - gdt - 1
        .long   gdt

        .org    _start + 510
        .word   0xaa55
