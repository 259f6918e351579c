#!/usr/bin/env node
import { ipvsadmSaveMain } from '@ipvsd/ipvsadm';
import { openDirector, orExplain } from '../open-director.ts';

await orExplain(() => ipvsadmSaveMain(openDirector));
