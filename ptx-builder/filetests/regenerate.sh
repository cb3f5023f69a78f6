#!/bin/sh
# Compiles the sources of nvcc/, llvm/ and triton/ again: what follows the header of each .ptx file is replaced.
# NVCC, CLANG and PYTHON name the compilers; Triton is a module of the last. The first line of each file says which source and options it is made from:
#   // Generated from SOURCE by COMPILER VERSION with OPTIONS.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# A directory of a fixed name, since debug information repeats it.
work=/tmp/filetests
rm -rf "$work"
mkdir -p "$work"
for file in ${*:-"$here"/nvcc/*.ptx "$here"/llvm/*.ptx "$here"/triton/*.ptx}; do
    line=$(sed -n 1p "$file")
    source=$(echo "$line" | sed -n 's|^// Generated from \([^ ]*\) by .*|\1|p')
    options=$(echo "$line" | sed -n 's|.* with \(.*\)\.$|\1|p')
    cp "$(dirname "$file")"/*.cu "$(dirname "$file")"/*.h "$(dirname "$file")"/*.py "$work" 2>/dev/null || true
    case "$line" in
    *" by nvcc "*) (cd "$work" && ${NVCC:-nvcc} -ptx $options -o out.ptx "$source") ;;
    *" by clang "*)
        (cd "$work" && ${CLANG:-clang} -x cuda --cuda-device-only -nocudainc -nocudalib -S $options -o out.ptx "$source")
        ;;
    *" by triton "*)
        # The names of types have asterisks.
        (cd "$work" && set -f && ${PYTHON:-python3} compile.py "$source" $options >out.ptx 2>/dev/null)
        ;;
    *)
        echo "$file: the first line names no source" >&2
        exit 1
        ;;
    esac
    # The compilers' banners stay out: the header says what they say.
    sed -n '/^\.version/q;p' "$file" >"$work/new.ptx"
    sed -n '/^\.version/,$p' "$work/out.ptx" | sed '/^\/\/ .*clang version/d; s|"/[^"]*/|"|' >>"$work/new.ptx"
    cp "$work/new.ptx" "$file"
done
