// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelRepository} from "../../../src/ModelRepository.sol";
import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract ConstructorTest is Base {
    function test_RevertWhen_TheMinimumWindowIsZero() external {
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_TermOutOfRange.selector, "minimumWindow", 0, 1, 14 days));
        new ModelRepository(0);
    }

    function test_RevertWhen_TheMinimumWindowIsLongerThanAnyWindow() external {
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_TermOutOfRange.selector, "minimumWindow", 14 days + 1, 1, 14 days));
        new ModelRepository(14 days + 1);
    }

    function test_RevertWhen_EtherComesWithoutACall() external {
        vm.prank(stranger);
        (bool isTaken,) = address(repository).call{value: 1 ether}("");
        vm.assertFalse(isTaken, "plain ether");
    }

    function test_KeepsTheMinimumWindow() external {
        vm.assertEq(repository.minimumWindow(), MINIMUM_WINDOW, "minimum window");
        vm.assertEq(new ModelRepository(14 days).minimumWindow(), 14 days, "the longest");
        vm.assertEq(repository.modelCount(), 0, "no models yet");
    }
}
