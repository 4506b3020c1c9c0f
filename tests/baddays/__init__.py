"""The worst days: no disk, no files, a disk that lies or rots."""
