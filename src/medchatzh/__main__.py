from medchatzh.cli import main

raise SystemExit(main())
