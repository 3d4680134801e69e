// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DemoDollar} from "../src/DemoDollar.sol";
import {ShareOffering} from "../src/ShareOffering.sol";
import {SharesTest} from "./SharesTest.sol";
import {vm} from "./Vm.sol";

/// @notice Measures shares that have had income every day for 90 days, and whose holders have all withdrawn before.
/// forge-config: default.isolate = true
contract SharesGasTest is SharesTest {
    uint256 private constant DAYS = 90;
    uint256 private constant TRANSACTION = 21_000;

    DemoDollar private dollar;

    function setUp() public override {
        vm.chainId(1);
        vm.warp(START);
        dollar = new DemoDollar(address(this));
        ledger = deploy(dollar, DELAY);
        shares = issue(SUPPLY);
        give(ISSUER, ALICE, 400);
        give(ISSUER, BOB, 200);
        for (uint256 day = 0; day < DAYS; ++day) {
            dollar.mint(address(shares), 10e6);
            shares.sync();
            wait(1 days);
        }
        address[3] memory holders = [ISSUER, ALICE, BOB];
        for (uint256 i = 0; i < 3; ++i) {
            withdraw(holders[i]);
        }
        dollar.mint(ALICE, 1_000 * PRICE); // It has tokens, as any holder that has withdrawn.
        wait(1 hours);
    }

    function test_transfer_of_shares() public {
        snapshot("shares: transfer", ALICE, address(shares), abi.encodeCall(shares.transfer, (BOB, 10)));
    }

    function test_transfer_of_shares_to_a_new_holder() public {
        snapshot("shares: transfer, new holder", ALICE, address(shares), abi.encodeCall(shares.transfer, (CAROL, 10)));
    }

    function test_withdrawal() public {
        snapshot("shares: withdraw", ALICE, address(shares), abi.encodeCall(shares.withdraw, (ALICE)));
    }

    function test_sync_of_income() public {
        dollar.mint(address(shares), 10e6);
        snapshot("shares: sync, income arrived", ANYONE, address(shares), abi.encodeCall(shares.sync, ()));
    }

    function test_purchase() public {
        ShareOffering offering = offer(100);
        vm.prank(ALICE);
        dollar.approve(address(offering), 100 * PRICE);
        vm.prank(ALICE);
        offering.buy(1, PRICE); // Its own slots are in use.
        bytes memory call = abi.encodeCall(offering.buy, (10, 10 * PRICE));
        snapshot("offering: buy", ALICE, address(offering), call);
    }

    /// @dev Execution only, as GAS.md says.
    function snapshot(string memory name, address sender, address target, bytes memory call) internal {
        uint256 calldataGas = 0;
        for (uint256 i = 0; i < call.length; ++i) {
            calldataGas += call[i] == 0 ? 4 : 16;
        }
        vm.prank(sender);
        (bool ok,) = target.call(call);
        vm.assertTrue(ok, "the measured call succeeds");
        vm.snapshotValue("Gas", name, vm.lastCallGas().gasTotalUsed - TRANSACTION - calldataGas);
    }
}
